import Glibc
import LinuxSystem

/// A data directory taken for this process alone, until this value goes.
struct SpoolLock: ~Copyable, Sendable {
    private let file: FileDescriptor

    /// - Throws: a refusal that names the process which has it.
    init(_ dataDirectory: String) throws(SpoolRecovery.Refusal) {
        let file = try Self.open(dataDirectory)
        guard Self.take(file) else {
            throw SpoolRecovery.Refusal(description: "data_dir \(dataDirectory) is in use by another process\(Self.owner(file))")
        }
        do throws(SystemError) {
            try file.truncate(to: 0)
            try unsafe file.writeAll(Array("\(getpid())\n".utf8).span.bytes, at: 0)
        } catch { Log.debug("the lock does not name its process", ["error": "\(error)"]) }
        self.file = file
    }

    /// Tries for a moment: whoever looks whether a gateway runs has the lock for microseconds.
    private static func take(_ file: borrowing FileDescriptor) -> Bool {
        for _ in 0..<10 where !file.lock() { usleep(10_000) }
        return file.lock()
    }

    private static func open(_ dataDirectory: String) throws(SpoolRecovery.Refusal) -> FileDescriptor {
        do throws(SystemError) {
            return try FileDescriptor.open(path(dataDirectory), O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
        } catch { throw SpoolRecovery.Refusal(description: "data_dir cannot be used: \(error)") }
    }

    /// True when another process has the directory just now.
    static func isTaken(_ dataDirectory: String) -> Bool {
        do throws(SystemError) {
            return try FileDescriptor.open(path(dataDirectory), O_RDONLY | O_NOFOLLOW).isLockedElsewhere
        } catch { return false }
    }

    private static func path(_ dataDirectory: String) -> String { "\(dataDirectory)/lock" }

    private static func owner(_ file: borrowing FileDescriptor) -> String {
        let text = String(decoding: (try? file.read(16, at: 0)) ?? [], as: UTF8.self).prefix { $0.isNumber }
        return text.isEmpty ? "" : ", \(text)"
    }
}
