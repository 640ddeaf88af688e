import LinuxSystem
import Synchronization

/// Writes lines to a descriptor on a thread of its own, so that nobody waits for whoever reads them; from any thread.
///
/// The lines that wait are bounded in bytes. One that finds no room is dropped and counted, as is one that the descriptor
/// refuses, and a line in their place says how many there were.
final class LogWriter: Sendable {
    /// The most bytes of lines that wait to be written.
    static let capacity = 1 << 20

    private struct State {
        /// Lines that nobody has begun to write.
        var waiting: [UInt8] = []
        /// Bytes of lines that are being written.
        var taken = 0
        /// Lines that found no room since the thread took those that waited.
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
    ///   - notice: the line that tells of dropped ones.
    init(_ descriptor: Int32, notice: @escaping @Sendable (_ count: Int) -> [UInt8]) {
        (self.descriptor, self.notice) = (descriptor, notice)
    }

    /// How many lines were not written.
    var droppedCount: Int { dropped.value }

    /// Takes a line, which ends with a line feed; never waits.
    func append(_ line: [UInt8]) {
        _ = startThread()
        let isTaken = state.withLock { state in
            // After a gap nothing is taken until the thread has seen it, so that what tells of it stands in its place.
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
        // Where no thread can be had, this may be the line that says so.
        guard startThread() else { return _ = writeOnce(LogOutput(descriptor)) }
        state.wait { state in
            let isDone = state.waiting.isEmpty && state.overflowed == 0 && !state.isWriting
            return isDone || MonotonicTime.now >= deadline ? .done(()) : .again(deadline)
        }
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

    /// Writes what waits.
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

    /// Says how many lines were dropped since it was last said.
    private func tell(_ output: inout LogOutput) {
        if output.untold > 0, output.write(notice(output.untold)[...]) == 0 { output.untold = 0 }
    }

    /// As many whole lines as a pipe takes in one piece, so that no other process writes into the middle of one; or a longer line.
    private static func piece(of lines: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        lines[...(lines.prefix(LogOutput.pipeUnit).lastIndex(of: 10) ?? lines.firstIndex(of: 10) ?? lines.endIndex - 1)]
    }
}
