import Glibc
import LinuxSystem
import Synchronization

/// The name of a file that is being written: `.<name>.<process>-<number>-<start>.tmp`.
///
/// The start time identifies the process: process ids are reused, and in a container the id is always the same.
public enum TemporaryName {
    private static let next = Atomic<Int>(0)
    private static let ending = ".tmp"
    private static let start = start(of: getpid())

    /// A name that no other file of this process has; receivers that share a directory may write files of the same final name.
    static func make(for name: String) -> String {
        // The start time is unknown when no descriptor was free to read it; the file then counts as this process's as long as the
        // id is in use.
        let start = start.map { "-\($0)" } ?? ""
        return ".\(name).\(getpid())-\(next.wrappingAdd(1, ordering: .relaxed).oldValue)\(start)\(ending)"
    }

    /// True for the name of a temporary file, whichever process writes it.
    public static func matches(_ name: String) -> Bool { writer(of: name) != nil }

    /// True when the process that wrote the file has ended.
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
        // Version 0.1.0 wrote no start time.
        guard 2...3 ~= parts.count, numbers.count == parts.count, let process = pid_t(exactly: numbers[0]), process > 0 else { return nil }
        return (process, numbers.count == 3 ? numbers[2] : nil)
    }

    /// The start time of a process, in clock ticks since the machine started (proc_pid_stat(5)); nil when unknown.
    private static func start(of process: pid_t) -> Int? {
        guard let bytes = try? FileDescriptor.open("/proc/\(process)/stat", O_RDONLY).readAll(limit: 1 << 16) else { return nil }
        // The program's name, in parentheses, may contain any characters.
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? Int(fields[19]) : nil
    }
}
