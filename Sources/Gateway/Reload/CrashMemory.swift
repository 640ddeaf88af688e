import Glibc
import LinuxSystem
import PluginHost
import Receivers
import SpoolStore
import Synchronization
import Telemetry

/// What is remembered of crashes in plugins, from one process to the next.
///
/// While the process runs, its notes are in a file of `/dev/shm`, which outlives the process however it ends. They are not in the data
/// directory, because a thread that writes to a mapped file may have to wait for the disk; and with `/dev/shm` they do not outlive the
/// machine, whose power cut is no crash. The handlers of fatal signals also copy the notes into the data directory, because a
/// container may have lost `/dev/shm` when it is started again. At the start, what the notes say is added to the history.
final class CrashMemory: Sendable {
    private static let (copyName, historyName, idName) = ("crash", "crash-history", "crash-id")
    /// The history of a receiver has at most 1,536 profiles of 24 bytes; a larger file is none.
    private static let largestHistory = 64 << 20

    /// The handlers use the notes and the copy until the process ends.
    private static let kept = Mutex<[CrashMemory]>([])

    /// What was remembered at the start.
    let history: CrashHistory
    private let notes: SharedMapping?
    private let copy: FileDescriptor?
    private let path: String?

    /// Reads what is remembered, logs how the last process ended, and begins to note.
    ///
    /// A failure costs only the memory, and is logged.
    ///
    /// - Parameter directory: nil remembers nothing; a crash is then only told on standard error.
    init(in directory: DataDirectory?) {
        let root = Self.attempt { () throws(SystemError) in try directory?.root() } ?? nil
        let path = root.flatMap { root in Self.attempt { () throws(SystemError) in try Self.path(for: root) } }
        let shared = path.flatMap { path in Self.attempt { () throws(SystemError) in try Self.mapping(path) } }
        notes =
            shared
            ?? Self.attempt { () throws(SystemError) in
                try SharedMapping(SharedMapping.anonymousFile("crash-notes", count: CrashGuard.size), count: CrashGuard.size)
            }
        self.path = shared == nil ? nil : path
        var history = CrashHistory()
        if let root { history = Self.attempt { () throws(SystemError) in try Self.history(root, shared) } ?? history }
        self.history = history
        var copy: FileDescriptor?
        if let root { copy = Self.attempt { () throws(SystemError) in try Self.emptyCopy(in: root) } }
        if let notes { unsafe CrashGuard.begin(notes.address, copyingTo: copy?.number) }
        self.copy = copy
        Self.kept.withLock { $0.append(self) }
    }

    /// Notes that the process ends in order, and removes the notes.
    func end() {
        CrashGuard.processEnds()
        if let path { unsafe unlink(path) }
    }

    private static func attempt<R: ~Copyable>(_ body: () throws(SystemError) -> R) -> R? {
        do throws(SystemError) { return try body() } catch {
            Log.warning("crashes in plugins are not remembered", ["error": "\(error)"])
            return nil
        }
    }

    // MARK: Notes

    /// The path of the notes. A copy of the data directory has another folder, and a new folder another id.
    private static func path(for root: OpenFolder) throws(SystemError) -> String {
        var id = String(decoding: try content(of: idName, root, limit: 64) ?? [], as: UTF8.self)
        if id.utf8.count != 16 || !id.utf8.allSatisfy({ (48...57 ~= $0) || (97...102 ~= $0) }) {
            id = UInt64.random(in: 0...(.max)).sixteenDigits
            try write(id, to: idName, root)
        }
        return "/dev/shm/profile-gateway-\(geteuid())-\(try root.identity().text)-\(id)"
    }

    private static func mapping(_ path: String) throws(SystemError) -> SharedMapping {
        let file = try FileDescriptor.openFile(path, O_RDWR | O_CREAT, mode: 0o600)
        guard try file.owner() == geteuid() else { throw SystemError("open \(path), which belongs to somebody else", code: EPERM) }
        if try file.size() != CrashGuard.size { try file.truncate(to: 0) }
        try file.allocate(CrashGuard.size)
        return try SharedMapping(file, count: CrashGuard.size)
    }

    /// The file that the handlers copy the notes to. It has its blocks already, for a disk that is full by then.
    private static func emptyCopy(in root: OpenFolder) throws(SystemError) -> FileDescriptor {
        let file = try root.open(copyName, O_WRONLY | O_CREAT, mode: 0o600)
        try unsafe file.writeAll([UInt8](repeating: 0, count: CrashGuard.size).span.bytes, at: 0)
        return file
    }

    // MARK: History

    /// Reads the history, and adds the notes of the last process if it did not end in order.
    private static func history(_ root: OpenFolder, _ shared: SharedMapping?) throws(SystemError) -> CrashHistory {
        var history = CrashHistory()
        if let text = try content(of: historyName, root, limit: largestHistory) {
            if let known = CrashHistory(text) {
                history = known
            } else {
                Log.warning("the history of crashes cannot be read; it is kept aside", ["file": root.path(of: historyName + ".damaged")])
                try root.rename(historyName, to: historyName + ".damaged")
            }
        }
        let now = MonotonicTime.unixNanoseconds / 1_000_000_000
        var report = shared.flatMap { unsafe CrashReport($0.address, now: now) }
        if report == nil { report = try copied(root, now: now) }
        guard let report else { return history }
        log(report)
        let before = history
        history.add(report)
        if history != before { try write(history.text, to: historyName, root) }
        return history
    }

    private static func copied(_ root: OpenFolder, now: Int64) throws(SystemError) -> CrashReport? {
        guard var bytes = try content(of: copyName, root, limit: CrashGuard.size), bytes.count == CrashGuard.size else { return nil }
        return unsafe bytes.withUnsafeMutableBytes { bytes in
            unsafe bytes.baseAddress.flatMap { unsafe CrashReport($0, now: now) }
        }
    }

    /// The bytes of a file; nil when there is none.
    private static func content(of name: String, _ root: OpenFolder, limit: Int) throws(SystemError) -> [UInt8]? {
        do throws(SystemError) { return try root.open(name, O_RDONLY).readAll(limit: limit) } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    private static func write(_ text: String, to name: String, _ root: OpenFolder) throws(SystemError) {
        let new = try root.open(name + ".new", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        try unsafe new.writeAll(Array(text.utf8).span.bytes, at: 0)
        try new.synchronize()
        try root.rename(name + ".new", to: name)
    }

    private static func log(_ report: CrashReport) {
        for instance in report.culprits {
            Log.error(
                "the last process crashed in a plugin",
                [
                    "cause": report.cause ?? "unknown", "receiver": instance.receiver, "plugin": instance.plugin,
                    "call": instance.call?.name ?? "none", "sequence": "\(instance.sequence)", "open": "\(instance.open.count)",
                ])
        }
        guard report.culprits.isEmpty else { return }
        if let cause = report.cause { Log.error("the last process crashed outside of any plugin's code", ["cause": cause]) }
        for instance in report.instances where report.cause == nil && (instance.call != nil || !instance.open.isEmpty) {
            Log.warning(
                "the last process ended without a word, as when it is killed; the profiles that were open are delivered one at a time",
                [
                    "receiver": instance.receiver, "plugin": instance.plugin, "call": instance.call?.name ?? "none",
                    "sequence": "\(instance.sequence)", "open": "\(instance.open.count)",
                ])
        }
    }
}
