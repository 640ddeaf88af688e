import Glibc
import LinuxSystem
import PluginABI
import ProfileArchive
import Synchronization
import Telemetry

/// A plugin's library loaded into the process, from a checked file or, when its SHA-256 is pinned, from a sealed copy.
@safe final class PluginImage: Sendable {
    private let file: PluginFile
    /// The file's stamp when it was checked.
    private let stamp: FileStamp
    /// The SHA-256 of the content, in lower-case hexadecimal.
    let sha256: String
    /// The plugin's functions; valid until the process ends, and not checked.
    nonisolated(unsafe) let table: UnsafePointer<gw_plugin>

    /// Checks everything that can be checked without running the library, then loads it, which runs its constructors, and calls its entry.
    ///
    /// A file that is not pinned is loaded by its path, for debuggers and for `$ORIGIN`; before and after loading, the path is
    /// checked to lead to the same unchanged file.
    init(_ file: PluginFile) throws(PluginLibrary.LoadError) {
        let checked = try Self.open(file)
        let (stamp, bytes) = try Self.read(checked)
        if file.sha256 == nil { try FileTrust.check(checked, path: file.path) }
        try Self.check(bytes, file)
        var dependencies = DependencyTrust(copied: file.sha256 == nil ? nil : file.path)
        try dependencies.check(bytes, file.path)
        let copy = try Self.copy(bytes, file)
        (self.file, self.stamp, sha256) = (file, stamp, SHA256.hex(of: bytes))
        try Self.check(checked, file, stamp)
        unsafe table = try unsafe Self.inTurn(file.path) { () throws(PluginLibrary.LoadError) in
            let handle = unsafe try Self.load(copy?.path ?? file.path, file)
            try Self.check(checked, file, stamp)
            return unsafe try Self.table(handle, file.path)
        }
    }

    /// Runs the library's first code beside that of no other plugin, and puts back what it changes in the process.
    private static func inTurn<R>(
        _ path: String, _ body: () throws(PluginLibrary.LoadError) -> R
    ) throws(PluginLibrary.LoadError) -> R {
        let turn = StartTurns.begin()
        defer {
            let change = ProcessState.own.restore()
            let wasAlone = StartTurns.end(turn)
            if let change {
                let what = wasAlone ? "a plugin" : "one of several plugins, which started at once,"
                Log.warning("loading \(what) broke the contract", ["path": path, "problem": "it changed \(change)"])
            }
        }
        return try body()
    }

    /// Loads the library, which runs its constructors.
    private static func load(_ path: String, _ file: PluginFile) throws(PluginLibrary.LoadError) -> UnsafeMutableRawPointer {
        // RTLD_LOCAL keeps two plugins with equal type names apart. RTLD_NODELETE never unloads, because Swift's runtime keeps
        // pointers into the image.
        guard let handle = unsafe dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw .notLoadable(file.path, reason: unsafe dlerror().map { unsafe String(cString: $0) } ?? "no reason given")
        }
        return unsafe handle
    }

    /// Calls the library's entry.
    private static func table(
        _ handle: UnsafeMutableRawPointer, _ path: String
    ) throws(PluginLibrary.LoadError) -> UnsafePointer<gw_plugin> {
        guard let symbol = unsafe dlsym(handle, GW_PLUGIN_ENTRY) else { throw .noEntry(path) }
        let entry = unsafe unsafeBitCast(symbol, to: gw_plugin_entry.self)
        guard let table = unsafe entry(MemoryLayout<gw_host>.size) else { throw .declined(path) }
        return unsafe table
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

    /// The sealed copies by SHA-256. They are kept until the process ends, even if a library is not a plugin: the loader identifies
    /// libraries by path, and the path of a copy must not be reused.
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

    /// Checks that the path still leads to the checked file and that it is unchanged; a sealed copy cannot change.
    private static func check(_ checked: borrowing FileDescriptor, _ file: PluginFile, _ stamp: FileStamp) throws(PluginLibrary.LoadError) {
        guard file.sha256 == nil else { return }
        do throws(SystemError) {
            guard try FileStamp(of: checked) == stamp, FileStamp(of: file.path) == stamp else { throw SystemError("stat", code: ESTALE) }
        } catch { throw .changed(file.path) }
    }

    /// Whether the path now leads to another file, or the file was changed; never true for a pinned plugin.
    var isOutdated: Bool { file.sha256 == nil && FileStamp(of: file.path) != stamp }
}
