import Glibc
import LinuxSystem
import Synchronization

/// Writes whole lines to standard output, which all instances in the process share; a blocked write can be aborted.
final class StandardOutput: Sendable {
    /// The right to write: one writer at a time, so that lines of two receivers do not mix.
    private struct Turn {
        var isTaken = false
        /// The rest of a line that was written only in part.
        var cutLine: ArraySlice<UInt8> = []
    }

    // Shared by all instances of the process.
    private static let turn = Monitor(Turn())
    private let stop = Mutex<Wakeup?>(nil)
    private let isAborted = Atomic(false)

    func open() throws { try stop.withLock { $0 = try Wakeup() } }

    /// Aborts a write that waits for the reader of standard output, or for another instance's write.
    func abort() {
        stop.withLock { $0?.signal() }
        Self.turn.withLock { _ in isAborted.store(true, ordering: .relaxed) }
        Self.turn.signal()
    }

    /// Writes a line, after those of other instances.
    ///
    /// - Returns: false when aborted.
    func write(_ line: String) throws(SystemError) -> Bool {
        let cutLine: ArraySlice<UInt8>? = Self.turn.wait { turn in
            if isAborted.load(ordering: .relaxed) { return .done(nil) }
            guard !turn.isTaken else { return .again(.never) }
            turn.isTaken = true
            return .done(turn.cutLine)
        }
        guard let cutLine else { return false }
        let text = Array(line.utf8)
        let (result, rest) = write(cutLine + text)
        // A line of which nothing was written need not be completed.
        let cut = rest.count < text.count ? rest : rest.dropLast(text.count)
        Self.turn.withLock { $0 = Turn(cutLine: cut) }
        Self.turn.signal()
        return try result.get()
    }

    /// - Returns: whether all was written, and the bytes that were not written.
    private func write(_ bytes: ArraySlice<UInt8>) -> (Result<Bool, SystemError>, rest: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            guard waitForRoom() else { return (.success(false), rest) }
            // A pipe that is ready for writing takes this much without blocking.
            let part = rest.prefix(Int(PIPE_BUF))
            let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR, errno != EAGAIN { return (.failure(SystemError("write to standard output")), rest) }
            rest = rest.dropFirst(max(0, count))
        }
        return (.success(true), rest)
    }

    /// - Returns: false when aborted.
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
