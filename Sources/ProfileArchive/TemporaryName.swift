import Glibc
import LinuxSystem
import Synchronization

/// The name of a file that is being written: `.<name>.<process>-<number>-<start>.tmp`.
///
/// Process numbers come again, and in a container it is always the same one; when it started tells one process from another.
public enum TemporaryName {
    private static let next = Atomic<Int>(0)
    private static let ending = ".tmp"
    private static let start = start(of: getpid())

    /// A name that no other file of this process has; two receivers may share a directory, and then each of them writes a file of that name.
    static func make(for name: String) -> String {
        // Without a start, as where no descriptor was left to ask for it, the file counts as this process's while it lives.
        let start = start.map { "-\($0)" } ?? ""
        return ".\(name).\(getpid())-\(next.wrappingAdd(1, ordering: .relaxed).oldValue)\(start)\(ending)"
    }

    /// True for a name that only a file which is being written has, whoever writes it.
    public static func matches(_ name: String) -> Bool { writer(of: name) != nil }

    /// True when the process that wrote the file is no more.
    static func isLeftover(_ name: String) -> Bool {
        guard let writer = writer(of: name) else { return false }
        guard kill(writer.process, 0) == 0 || errno != ESRCH else { return true }
        guard let written = writer.start, let running = start(of: writer.process) else { return false }
        return written != running
    }

    private static func writer(of name: String) -> (process: pid_t, start: Int?)? {
        guard name.hasPrefix("."), name.hasSuffix(ending) else { return nil }
        let inner = name.dropFirst().dropLast(ending.count)
        guard let dot = inner.lastIndex(of: "."), ArchivedName(inner[..<dot]) != nil else { return nil }
        let parts = inner[inner.index(after: dot)...].split(separator: "-", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { $0.utf8.allSatisfy { 48...57 ~= $0 } ? Int($0) : nil }
        // Version 0.1.0 wrote no start.
        guard 2...3 ~= parts.count, numbers.count == parts.count, let process = pid_t(exactly: numbers[0]), process > 0 else { return nil }
        return (process, numbers.count == 3 ? numbers[2] : nil)
    }

    /// When a process started, in ticks since the machine did (proc_pid_stat(5)); nil when that cannot be known.
    private static func start(of process: pid_t) -> Int? {
        guard let bytes = try? FileDescriptor.open("/proc/\(process)/stat", O_RDONLY).readAll(limit: 1 << 16) else { return nil }
        // The name of the program, in parentheses, may hold anything.
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? Int(fields[19]) : nil
    }
}
