import LinuxSystem
import Synchronization

/// Writes lines to a descriptor on a thread of its own, so that no caller waits for the reader. Thread-safe.
///
/// The waiting lines are bounded in bytes. A line that finds no room, or that the descriptor refuses, is dropped and counted, and
/// a notice in its place gives the number.
final class LogWriter: Sendable {
    /// The most bytes of lines that wait to be written.
    static let capacity = 1 << 20

    private struct State {
        /// Lines that the thread has not taken yet.
        var waiting: [UInt8] = []
        /// Bytes of lines that the thread is writing.
        var taken = 0
        /// Lines that found no room since the thread last took the waiting ones.
        var overflowed = 0
        var isWriting = false

        mutating func take() -> (lines: [UInt8], overflowed: Int)? {
            guard !waiting.isEmpty || overflowed > 0 else { return nil }
            defer { (waiting, taken, overflowed, isWriting) = ([], waiting.count, 0, true) }
            return (waiting, overflowed)
        }
    }

    private let state = Monitor(State())
    private let hasThread = Mutex(false)
    private let dropped = Counter()
    private let descriptor: Int32
    private let notice: @Sendable (_ count: Int) -> [UInt8]

    /// - Parameters:
    ///   - descriptor: where the lines go; borrowed, and open for as long as this object lives.
    ///   - notice: makes the line that reports dropped lines.
    init(_ descriptor: Int32, notice: @escaping @Sendable (_ count: Int) -> [UInt8]) {
        (self.descriptor, self.notice) = (descriptor, notice)
    }

    /// How many lines were not written.
    var droppedCount: Int { dropped.value }

    /// Adds a line, which must end with a line feed; never waits.
    func append(_ line: [UInt8]) {
        _ = startThread()
        let isTaken = state.withLock { state in
            // After a dropped line no other line is taken until the thread has seen the gap, so that the notice stands in its
            // place.
            guard state.overflowed == 0, state.waiting.count + state.taken + line.count <= Self.capacity else {
                state.overflowed += 1
                return false
            }
            state.waiting += line
            return true
        }
        if !isTaken { dropped.add() }
        state.signal()
    }

    /// Waits until every line has been written or dropped, at most until `deadline`.
    func flush(until deadline: MonotonicTime) {
        // When no thread can be started, the lines are written here: one of them may say so.
        guard startThread() else { return _ = writeOnce(LogOutput(descriptor)) }
        state.wait(until: deadline) { $0.waiting.isEmpty && $0.overflowed == 0 && !$0.isWriting }
    }

    /// - Returns: whether there is a thread.
    private func startThread() -> Bool {
        hasThread.withLock { hasThread in
            if !hasThread {
                do throws(SystemError) {
                    try Thread("log") { [self] in run() }.detach()
                    hasThread = true
                } catch {}
            }
            return hasThread
        }
    }

    // MARK: On the thread

    private func run() {
        var output = LogOutput(descriptor)
        while true {
            state.wait { state in state.waiting.isEmpty && state.overflowed == 0 ? .again(.never) : .done(()) }
            output = writeOnce(output)
        }
    }

    /// Writes the waiting lines.
    private func writeOnce(_ output: consuming LogOutput) -> LogOutput {
        guard let (lines, overflowed) = state.withLock({ $0.take() }) else { return output }
        tell(&output)
        write(lines, &output)
        output.untold += overflowed
        tell(&output)
        state.withLock { ($0.taken, $0.isWriting) = (0, false) }
        state.signal()
        return output
    }

    private func write(_ lines: [UInt8], _ output: inout LogOutput) {
        var rest = lines[...]
        while !rest.isEmpty {
            let piece = Self.piece(of: rest)
            let refused = output.write(piece)
            dropped.add(refused)
            output.untold += refused
            rest = rest[piece.endIndex...]
            state.withLock { $0.taken -= piece.count }
        }
    }

    /// Writes a notice of the lines dropped since the last notice.
    private func tell(_ output: inout LogOutput) {
        if output.untold > 0, output.write(notice(output.untold)[...]) == 0 { output.untold = 0 }
    }

    /// As many whole lines as a pipe takes in one piece, so that no other process writes into the middle of a line; or one longer
    /// line.
    private static func piece(of lines: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        lines[...(lines.prefix(LogOutput.pipeUnit).lastIndex(of: 10) ?? lines.firstIndex(of: 10) ?? lines.endIndex - 1)]
    }
}
