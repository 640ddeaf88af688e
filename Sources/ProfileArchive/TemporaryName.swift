import Glibc
import Synchronization

/// The name of a file that is being written: `.<name>.<process>-<number>.tmp`.
public enum TemporaryName {
    private static let next = Atomic<Int>(0)
    private static let ending = ".tmp"

    /// A name that no other file of this process has; two receivers may share a directory, and then each of them writes a file of that name.
    static func make(for name: String) -> String {
        ".\(name).\(getpid())-\(next.wrappingAdd(1, ordering: .relaxed).oldValue)\(ending)"
    }

    /// True for a name that ``make(for:)`` gives, whoever wrote the file.
    public static func matches(_ name: String) -> Bool { process(of: name) != nil }

    /// True when the process that wrote the file is no more.
    static func isLeftover(_ name: String) -> Bool {
        guard let process = process(of: name) else { return false }
        return kill(process, 0) != 0 && errno == ESRCH
    }

    private static func process(of name: String) -> pid_t? {
        guard name.hasPrefix("."), name.hasSuffix(ending) else { return nil }
        let inner = name.dropFirst().dropLast(ending.count)
        guard let dot = inner.lastIndex(of: "."), ArchivedName(inner[..<dot]) != nil else { return nil }
        let numbers = inner[inner.index(after: dot)...].split(separator: "-", omittingEmptySubsequences: false)
        guard numbers.count == 2, numbers.allSatisfy({ $0.utf8.allSatisfy { 48...57 ~= $0 } }), Int(numbers[1]) != nil,
            let process = pid_t(numbers[0]), process > 0
        else { return nil }
        return process
    }
}
