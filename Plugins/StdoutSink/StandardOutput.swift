import Glibc
import LinuxSystem
import Synchronization

/// Standard output as whole lines, shared by every instance in the process, and given up on when told to.
final class StandardOutput: Sendable {
    enum Result {
        case written, aborted
        case failed(SystemError)
    }

    // One for the process: lines of two receivers must not mix.
    private static let lines = Mutex<Void>(())
    private let stop = Mutex<Wakeup?>(nil)

    func open() throws { try stop.withLock { $0 = try Wakeup() } }

    /// Makes a write that waits for its reader return.
    func abort() { stop.withLock { $0?.signal() } }

    func write(_ line: String) -> Result {
        let bytes = Array(line.utf8)
        return Self.lines.withLock { _ in
            var written = 0
            while written < bytes.count {
                guard waitForRoom() else { return .aborted }
                // A pipe that has room at all takes this much without waiting.
                let part = bytes[written...].prefix(Int(PIPE_BUF))
                let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
                if count < 0, errno != EINTR, errno != EAGAIN { return .failed(SystemError("write to standard output")) }
                written += max(0, count)
            }
            return .written
        }
    }

    /// - Returns: false when told to stop.
    private func waitForRoom() -> Bool {
        let stopped = stop.withLock { $0?.descriptor ?? -1 }
        var polls = [
            pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0), pollfd(fd: stopped, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            let ready = unsafe poll(&polls, 2, -1)
            if ready < 0, errno == EINTR { continue }
            return polls[1].revents == 0
        }
    }
}
