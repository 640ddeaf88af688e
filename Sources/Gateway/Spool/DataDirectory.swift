import Glibc
import LinuxSystem
import Synchronization

/// The data directory of a gateway, or of a command that looks at one: an open folder, and the spool in it.
///
/// Work goes on in the folders that were opened, so nothing is made under a path that leads elsewhere by now. While the path
/// leads elsewhere, or nothing answers, the directory is away: it is waited for, and ``check()`` takes it again when it is
/// back. From any thread; no call here holds a lock while it waits for the disk.
final class DataDirectory: Sendable {
    private struct State {
        var root: OpenFolder?
        var spool: OpenFolder?
        var lock: SpoolLock?
        /// What this process has written to `sequence`.
        var sequence: [UInt8]?
        var absence: String?
        /// How often the directory was taken again as another folder: what is open in the former one is worth nothing.
        var generation = 0
        /// Until when the last answer of the disk holds.
        var answersUntil = MonotonicTime(nanoseconds: 0)
    }

    /// Where it is; not relative, for a plugin may change the process's folder.
    let path: String
    private let state = Mutex(State())

    /// Opens nothing yet.
    init(_ path: String) { self.path = Self.absolute(path) }

    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let current = unsafe getcwd(nil, 0) else { return path }
        defer { unsafe free(current) }
        return unsafe String(cString: current) + "/" + path
    }

    // MARK: Folders

    /// Makes the directory and the spool where they are not there, each synced into its parent.
    func make() throws(SystemError) {
        try OpenFolder.make(path, mode: FileMode(0o700))
        _ = try root().make("spool", mode: FileMode(0o700))
        // The spool's own name too, where an earlier start was killed before it could sync it.
        try root().synchronize()
    }

    /// The directory itself.
    func root() throws(SystemError) -> OpenFolder {
        if let root = state.withLock({ $0.root }) { return root }
        let opened = try OpenFolder(path)
        return state.withLock { state in
            let root = state.root ?? opened
            state.root = root
            return root
        }
    }

    /// The folder of the spool.
    func spool() throws(SystemError) -> OpenFolder {
        if let spool = state.withLock({ $0.spool }) { return spool }
        let root = try root()
        let opened = try OpenFolder("spool", in: root)
        return state.withLock { state in
            guard state.root === root else { return opened }
            let spool = state.spool ?? opened
            state.spool = spool
            return spool
        }
    }

    /// Another folder in it, made where it is not there.
    func made(_ name: String) throws(SystemError) -> OpenFolder {
        try root().make(name, mode: FileMode(0o700))
    }

    /// Acts as the spool's owner from here on, or as the directory's where there is no spool; see ``OpenFolder/actAsOwner()``.
    func actAsOwner() throws(SystemError) {
        do throws(SystemError) { try spool().actAsOwner() } catch {
            guard error.code == ENOENT else { throw error }
            try root().actAsOwner()
        }
    }

    /// Changes each time the directory was taken again as another folder.
    var generation: Int { state.withLock { $0.generation } }

    // MARK: Whose it is

    /// Takes the directory for this process alone, until this object goes.
    func takeLock() throws(SpoolRecovery.Refusal) {
        let lock: SpoolLock
        do throws(SystemError) { lock = try SpoolLock(in: root(), makes: true) } catch {
            throw SpoolRecovery.Refusal(description: "data_dir cannot be used: \(error)")
        }
        guard lock.take() else {
            throw SpoolRecovery.Refusal(description: "data_dir \(path) is in use by another process\(lock.owner)")
        }
        lock.nameOwner()
        state.withLock { $0.lock = lock }
    }

    /// True when another process has the directory just now.
    var isTaken: Bool {
        do throws(SystemError) { return try SpoolLock(in: root(), makes: false).isTakenElsewhere } catch { return false }
    }

    /// Remembers what this process has written to `sequence`, which tells the directory from a copy of it.
    func hasSequence(_ bytes: [UInt8]) { state.withLock { $0.sequence = bytes } }

    // MARK: Away and back

    /// Why the directory is away; nil while it is there, as far as is known.
    var absence: String? { state.withLock { $0.absence } }

    /// Sees that the path leads to the directory, and takes it again where it has come back as another folder.
    ///
    /// - Throws: why it is away.
    func check() throws(SystemError) {
        do throws(SystemError) {
            if try !isInPlace() { try takeAgain() }
            note(nil)
        } catch {
            note(error)
            throw error
        }
    }

    /// Whether the directory can be listed and a file of it be read from the disk itself: then what fails is a file's own fault.
    ///
    /// An answer holds for a second, for a lost file is asked for by many.
    func answers() -> Bool {
        let now = MonotonicTime.now
        if state.withLock({ $0.answersUntil > now }) { return true }
        do throws(SystemError) {
            try check()
            _ = try spool().names()
            _ = try SequenceFile(self).readFromDisk()
            state.withLock { $0.answersUntil = now + .seconds(1) }
            return true
        } catch {
            note(error)
            return false
        }
    }

    private func isInPlace() throws(SystemError) -> Bool {
        let (root, spool) = state.withLock { ($0.root, $0.spool) }
        let present = try FileIdentity(of: path)
        guard let root, let known = Self.identity(of: root), known == present else { return false }
        guard let spool else { return true }
        guard let known = Self.identity(of: spool) else { return false }
        let found: FileIdentity
        do throws(SystemError) { found = try FileIdentity(of: "spool", in: root.number) } catch {
            guard error.code == ENOENT else { return false }
            throw SystemError("open \(path)/spool", code: ENOENT)
        }
        // There is nothing in it that would tell whose it is.
        guard found == known else { throw SystemError("\(path)/spool is another folder now", code: ESTALE) }
        return true
    }

    /// nil when the folder does not even tell that.
    private static func identity(of folder: OpenFolder) -> FileIdentity? {
        do throws(SystemError) { return try folder.identity() } catch { return nil }
    }

    /// Takes what the path leads to, when that is this directory: it holds the lock that this process has; or, once the former
    /// folder does not answer any more, a lock and a sequence as this process has written them, as after a mount.
    private func takeAgain() throws(SystemError) {
        let found = try OpenFolder(path)
        let (former, held, sequence) = state.withLock { ($0.root, $0.lock, $0.sequence) }
        guard let held else { return try take(found, nil) }
        let lock = try SpoolLock(in: found, makes: false)
        if lock.identity == held.identity { return try take(found, held) }
        let other = SystemError("\(path) is another folder now", code: ESTALE)
        if let former, (try? SequenceFile(former).readFromDisk()) != nil { throw other }
        guard lock.namesThisProcess, let sequence, try SequenceFile(found).readFromDisk() == sequence, lock.take() else { throw other }
        try take(found, lock)
    }

    private func take(_ root: OpenFolder, _ lock: SpoolLock?) throws(SystemError) {
        let spool = try OpenFolder("spool", in: root)
        state.withLock { state in
            (state.root, state.spool, state.lock) = (root, spool, lock)
            state.generation += 1
        }
        Log.info("data_dir was opened again", ["data_dir": path])
    }

    private func note(_ error: SystemError?) {
        // That says nothing about the directory.
        if error?.isLackOfDescriptors == true { return }
        let text = error.map { "\($0)" }
        let before = state.withLock { state in
            defer { state.absence = text }
            if text != nil { state.answersUntil = MonotonicTime(nanoseconds: 0) }
            return state.absence
        }
        if let text, before == nil { Log.error("data_dir is away; what is on disk waits for it", ["data_dir": path, "error": text]) }
        if text == nil, before != nil { Log.info("data_dir is back", ["data_dir": path]) }
    }
}

extension SystemError {
    /// Whether the folder may be away, or the system short of something, rather than a disk failing: whoever can, comes again.
    var isPassing: Bool {
        [ENOENT, ENOTDIR, ELOOP, ESTALE, ENOTCONN, ESHUTDOWN, EACCES, EPERM, ENXIO, ENODEV, ETIMEDOUT, EHOSTDOWN, EMFILE, ENFILE, ENOMEM]
            .contains(code)
    }
}
