import Glibc
import LinuxSystem
import Synchronization

/// Standard output as whole lines, shared by every instance in the process, and given up on when told to.
final class StandardOutput: Sendable {
    enum Result {
        case written, aborted
        case failed(SystemError)
    }

    /// Who writes now: one at a time, for lines of two receivers must not mix.
    private struct Turn {
        var isTaken = false
        /// The end of a line whose writer stopped in its middle.
        var cutLine: ArraySlice<UInt8> = []
    }

    // One for the process.
    private static let turn = Monitor(Turn())
    private let stop = Mutex<Wakeup?>(nil)
    private let isAborted = Atomic(false)

    func open() throws { try stop.withLock { $0 = try Wakeup() } }

    /// Makes a write that waits for its reader, or for another instance's write, return.
    func abort() {
        stop.withLock { $0?.signal() }
        Self.turn.withLock { _ in isAborted.store(true, ordering: .relaxed) }
        Self.turn.signal()
    }

    func write(_ line: String) -> Result {
        let cutLine: ArraySlice<UInt8>? = Self.turn.wait { turn in
            if isAborted.load(ordering: .relaxed) { return .done(nil) }
            guard !turn.isTaken else { return .again(.never) }
            turn.isTaken = true
            return .done(turn.cutLine)
        }
        guard let cutLine else { return .aborted }
        let text = Array(line.utf8)
        let (result, rest) = write(cutLine + text)
        // Of a line that was not begun nothing is left to be finished.
        let cut = rest.count < text.count ? rest : rest.dropLast(text.count)
        Self.turn.withLock { $0 = Turn(cutLine: cut) }
        Self.turn.signal()
        return result
    }

    /// - Returns: how it ended, and what was not written.
    private func write(_ bytes: ArraySlice<UInt8>) -> (Result, rest: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            guard waitForRoom() else { return (.aborted, rest) }
            // A pipe that has room at all takes this much without waiting.
            let part = rest.prefix(Int(PIPE_BUF))
            let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR, errno != EAGAIN { return (.failed(SystemError("write to standard output")), rest) }
            rest = rest.dropFirst(max(0, count))
        }
        return (.written, rest)
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
