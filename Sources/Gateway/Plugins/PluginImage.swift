import Glibc
import LinuxSystem
import ProfileArchive
import Synchronization

/// A plugin's library in the process, from a file that was checked, or from a sealed copy of one that is pinned.
@safe final class PluginImage: Sendable {
    private let file: PluginFile
    /// What the file was when it was checked.
    private let stamp: FileStamp
    /// What the loader calls it; valid until the process ends.
    nonisolated(unsafe) let handle: UnsafeMutableRawPointer

    /// Checks all that can be known without running any of it, then loads it, which runs its constructors.
    ///
    /// By its path, for debuggers and for `$ORIGIN`; that this leads to what was checked is seen before and after.
    init(_ file: PluginFile) throws(PluginLibrary.LoadError) {
        let checked = try Self.open(file)
        let (stamp, bytes) = try Self.read(checked)
        if file.sha256 == nil { try FileTrust.check(checked, path: file.path) }
        try Self.check(bytes, file)
        var dependencies = DependencyTrust(copied: file.sha256 == nil ? nil : file.path)
        try dependencies.check(bytes, file.path)
        let copy = try Self.copy(bytes, file)
        (self.file, self.stamp) = (file, stamp)
        try Self.check(checked, file, stamp)
        // Local, so that two plugins with equal type names stay apart; never unloaded, for Swift's runtime keeps
        // pointers into what it has seen.
        guard let handle = unsafe dlopen(copy?.path ?? file.path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw .notLoadable(file.path, reason: unsafe dlerror().map { unsafe String(cString: $0) } ?? "no reason given")
        }
        // Constructors of the library have run.
        ignoreErrorSignals()
        unsafe self.handle = unsafe handle
        try Self.check(checked, file, stamp)
    }

    private static func open(_ file: PluginFile) throws(PluginLibrary.LoadError) -> FileDescriptor {
        do throws(SystemError) { return try FileDescriptor.openFile(file.path, O_RDONLY) } catch {
            throw error.code == EINVAL ? .notSharedObject(file.path) : .unreadable(error)
        }
    }

    private static func read(_ opened: borrowing FileDescriptor) throws(PluginLibrary.LoadError) -> (FileStamp, [UInt8]) {
        do throws(SystemError) {
            return (try FileStamp(of: opened), try opened.readAll(limit: PluginLibrary.maximumFile))
        } catch { throw .unreadable(error) }
    }

    private static func check(_ bytes: [UInt8], _ file: PluginFile) throws(PluginLibrary.LoadError) {
        if let wanted = file.sha256, case let found = SHA256.hex(of: bytes), found != wanted {
            throw .otherContent(file.path, sha256: found)
        }
        guard let header = ELFHeader(bytes), header.isSharedObject else { throw .notSharedObject(file.path) }
        guard header.isNative else { throw .otherArchitecture(file.path, machine: header.machine) }
        guard header.loadedEnd(bytes) <= bytes.count else { throw .cutShort(file.path) }
    }

    /// By SHA-256; kept until the process ends, also where a library turns out to be no plugin: the loader tells libraries apart by
    /// their paths, and the one of a copy must not come again.
    private static let copies = Mutex<[String: SealedFile]>([:])

    private static func copy(_ bytes: [UInt8], _ file: PluginFile) throws(PluginLibrary.LoadError) -> SealedFile? {
        guard let sha256 = file.sha256 else { return nil }
        do throws(SystemError) {
            return try copies.withLock { (copies) throws(SystemError) in
                if let known = copies[sha256] { return known }
                let copy = try SealedFile(bytes, name: file.path.pathComponents.last ?? "plugin")
                copies[sha256] = copy
                return copy
            }
        } catch { throw .unreadable(error) }
    }

    /// Sees that the path leads to what was checked, and that this is what it was; a copy cannot have been changed.
    private static func check(_ checked: borrowing FileDescriptor, _ file: PluginFile, _ stamp: FileStamp) throws(PluginLibrary.LoadError) {
        guard file.sha256 == nil else { return }
        do throws(SystemError) {
            guard try FileStamp(of: checked) == stamp, FileStamp(of: file.path) == stamp else { throw SystemError("stat", code: ESTALE) }
        } catch { throw .changed(file.path) }
    }

    /// Whether the path leads to another file by now, or the file was changed; never where it is pinned.
    var isOutdated: Bool { file.sha256 == nil && FileStamp(of: file.path) != stamp }
}
