import Glibc

/// A descriptor that takes lines whole or not at all; used by one thread, which it may hold for as long as it likes.
struct LogOutput {
    /// So many bytes go into a pipe in one piece.
    static let pipeUnit = Int(PIPE_BUF)

    private let descriptor: Int32
    /// The end of a line whose beginning was written before the descriptor refused more.
    private var cutLine: ArraySlice<UInt8> = []
    /// Lines that were dropped and that no line tells of yet.
    var untold = 0

    /// - Parameter descriptor: borrowed.
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Writes whole lines, after the end of one that was cut before.
    ///
    /// - Returns: how many of them were refused.
    mutating func write(_ lines: ArraySlice<UInt8>) -> Int {
        cutLine = send(cutLine)
        guard cutLine.isEmpty else { return Self.count(lines) }
        let left = send(lines)
        guard left.startIndex > lines.startIndex, lines[left.startIndex - 1] != 10 else { return Self.count(left) }
        cutLine = left[...(left.firstIndex(of: 10) ?? left.endIndex - 1)]
        return Self.count(left[cutLine.endIndex...])
    }

    private static func count(_ lines: ArraySlice<UInt8>) -> Int { lines.count { $0 == 10 } }

    /// - Returns: what was refused.
    private func send(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var rest = bytes
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 { rest = rest.dropFirst(count) } else if count == 0 || !waitsOrRetries(errno) { break }
        }
        return rest
    }

    /// Waits for room where somebody who shares the open file made it non-blocking.
    ///
    /// - Returns: whether to write again after an error.
    private func waitsOrRetries(_ error: Int32) -> Bool {
        guard error == EAGAIN else { return error == EINTR }
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe Glibc.poll(&poll, 1, -1)
        return true
    }
}
