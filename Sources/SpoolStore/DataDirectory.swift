import Glibc
package import LinuxSystem
import Synchronization
import Telemetry

/// The data directory of a gateway, or of a command that inspects one: the open folder, and the open folder of its spool.
///
/// Files are accessed through the opened folders, so nothing is created under a path that leads elsewhere by now. While the path
/// leads elsewhere, or the disk does not answer, the directory is "away"; ``check()`` opens it again when it is back. Callable from
/// any thread; no method holds a lock while it waits for the disk.
package final class DataDirectory: Sendable {
    private struct State {
        var root: OpenFolder?
        var spool: OpenFolder?
        var lock: SpoolLock?
        /// The bytes that this process has written to `sequence`.
        var sequence: [UInt8]?
        var absence: String?
        /// The number of times that the directory was opened again as another folder; files open in a former folder are useless.
        var generation = 0
        /// The time until which the last successful ``answers()`` is reused.
        var answersUntil = MonotonicTime(nanoseconds: 0)
    }

    /// The absolute path, because a plugin may change the process's working directory.
    let path: String
    private let state = Mutex(State())

    /// Opens nothing yet.
    package init(_ path: String) { self.path = path.absolutePath }

    // MARK: Folders

    /// Creates the directory and the spool's folder if they are missing, and syncs each in its parent.
    func make() throws(SystemError) {
        try OpenFolder.make(path, mode: FileMode(0o700))
        _ = try root().make("spool", mode: FileMode(0o700))
        // The folder `spool` may exist without having been synced, when an earlier start was killed in between.
        try root().synchronize()
    }

    /// The directory itself.
    package func root() throws(SystemError) -> OpenFolder {
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

    /// Returns another folder of the directory, and creates it if it is missing.
    package func made(_ name: String) throws(SystemError) -> OpenFolder {
        try root().make(name, mode: FileMode(0o700))
    }

    /// Lets a process of root act as the owner of the spool, or of the directory when there is no spool; see
    /// ``OpenFolder/actAsOwner()``.
    func actAsOwner() throws(SystemError) {
        do throws(SystemError) { try spool().actAsOwner() } catch {
            guard error.code == ENOENT else { throw error }
            try root().actAsOwner()
        }
    }

    /// A number that changes each time the directory is opened again as another folder.
    package var generation: Int { state.withLock { $0.generation } }

    // MARK: Ownership

    /// Locks the directory for this process, until this object is deallocated.
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

    /// True while another process holds the directory's lock.
    var isTaken: Bool {
        do throws(SystemError) { return try SpoolLock(in: root(), makes: false).isTakenElsewhere } catch { return false }
    }

    /// Remembers the bytes written to `sequence`, by which the directory is distinguished from a copy of it.
    func hasSequence(_ bytes: [UInt8]) { state.withLock { $0.sequence = bytes } }

    // MARK: Away and back

    /// The reason why the directory is away; nil while it is present, as far as is known.
    var absence: String? { state.withLock { $0.absence } }

    /// Checks that the path still leads to the directory, and opens it again if it has come back as another folder.
    ///
    /// - Throws: the reason why it is away.
    func check() throws(SystemError) {
        do throws(SystemError) {
            if try !isInPlace() { try takeAgain() }
            note(nil)
        } catch {
            note(error)
            throw error
        }
    }

    /// Whether the spool can be listed and `sequence` can be read from the disk; a failure to read another file is then that file's
    /// own.
    ///
    /// A positive answer is reused for a second, because a lost file may cause many calls.
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
        // Nothing in the folder `spool` identifies its owner.
        guard found == known else { throw SystemError("\(path)/spool is another folder now", code: ESTALE) }
        return true
    }

    /// The folder's identity; nil when it cannot be read.
    private static func identity(of folder: OpenFolder) -> FileIdentity? {
        do throws(SystemError) { return try folder.identity() } catch { return nil }
    }

    /// Opens the folder at the path if it is this directory: it contains the lock file that this process holds; or, when the former
    /// folder cannot be read any more (as after a new mount), a free lock file and a `sequence` with the contents that this process
    /// has written.
    private func takeAgain() throws(SystemError) {
        let found = try OpenFolder(path)
        let (former, held, sequence) = state.withLock { ($0.root, $0.lock, $0.sequence) }
        guard let held else { return try adopt(found, nil) }
        let lock = try SpoolLock(in: found, makes: false)
        if lock.identity == held.identity { return try adopt(found, held) }
        let other = SystemError("\(path) is another folder now", code: ESTALE)
        if let former, (try? SequenceFile(former).readFromDisk()) != nil { throw other }
        guard lock.namesThisProcess, let sequence, try SequenceFile(found).readFromDisk() == sequence, lock.take() else { throw other }
        try adopt(found, lock)
    }

    private func adopt(_ root: OpenFolder, _ lock: SpoolLock?) throws(SystemError) {
        let spool = try OpenFolder("spool", in: root)
        state.withLock { state in
            (state.root, state.spool, state.lock) = (root, spool, lock)
            state.generation += 1
        }
        Log.info("data_dir was opened again", ["data_dir": path])
    }

    private func note(_ error: SystemError?) {
        // A lack of descriptors says nothing about the directory.
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
    /// Whether the folder may be away or the system short of a resource, rather than the disk failing; senders should then retry.
    package var isPassing: Bool {
        [ENOENT, ENOTDIR, ELOOP, ESTALE, ENOTCONN, ESHUTDOWN, EACCES, EPERM, ENXIO, ENODEV, ETIMEDOUT, EHOSTDOWN, EMFILE, ENFILE, ENOMEM]
            .contains(code)
    }
}
