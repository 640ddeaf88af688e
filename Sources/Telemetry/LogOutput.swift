import Glibc

/// A descriptor that gets each line whole or not at all; used by one thread, which it may block for any time.
struct LogOutput {
    /// The most bytes that a pipe takes in one piece.
    static let pipeUnit = Int(PIPE_BUF)

    private let descriptor: Int32
    /// The rest of a line of which the descriptor has taken only the beginning.
    private var cutLine: ArraySlice<UInt8> = []
    /// Dropped lines that no notice has reported yet.
    var untold = 0

    /// - Parameter descriptor: borrowed.
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Writes the rest of a cut line, then `lines`, which are whole.
    ///
    /// - Returns: how many of `lines` were refused.
    mutating func write(_ lines: ArraySlice<UInt8>) -> Int {
        cutLine = send(cutLine)
        guard cutLine.isEmpty else { return Self.count(lines) }
        let left = send(lines)
        guard left.startIndex > lines.startIndex, lines[left.startIndex - 1] != 10 else { return Self.count(left) }
        cutLine = left[...(left.firstIndex(of: 10) ?? left.endIndex - 1)]
        return Self.count(left[cutLine.endIndex...])
    }

    private static func count(_ lines: ArraySlice<UInt8>) -> Int { lines.count { $0 == 10 } }

    /// - Returns: the bytes that were refused.
    private func send(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var rest = bytes
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 { rest = rest.dropFirst(count) } else if count == 0 || !waitsOrRetries(errno) { break }
        }
        return rest
    }

    /// Waits for room when another user of the open file has made it non-blocking.
    ///
    /// - Returns: whether to write again after an error.
    private func waitsOrRetries(_ error: Int32) -> Bool {
        guard error == EAGAIN else { return error == EINTR }
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe Glibc.poll(&poll, 1, -1)
        return true
    }
}
