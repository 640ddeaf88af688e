import LinuxSystem

/// Reads one HTTP/1.x answer as its bytes arrive, strictly: what RFC 9112 lets a client refuse is refused, because two readers of a
/// lenient answer can disagree about where it ends.
///
/// Nothing depends on how the bytes are cut into pieces. Interim answers are skipped.
public struct AnswerParser: Sendable {
    /// Why an answer cannot be read on; its connection must be closed.
    public enum Failure: Error, Equatable, Sendable {
        /// What is wrong with it, to follow "the answer has".
        case malformed(String)
        /// Which bound it exceeded, to follow "the answer has"; its status holds, if it has one.
        case excess(String)
        /// Where the end of the connection came, in a sentence.
        case endedEarly(String)

        /// The reason in words.
        public var words: String {
            switch self {
            case .malformed(let what), .excess(let what): "the answer has \(what)"
            case .endedEarly(let sentence): sentence
            }
        }
    }

    /// The most interim answers (1xx) before the answer itself.
    public static let mostInterim = 64
    /// The most bytes of chunk sizes and extensions together, not counting ``usualFraming`` of each chunk.
    public static let mostFraming = 16 << 10
    /// As many bytes as the size of a chunk needs with its line end.
    public static let usualFraming = 17

    private enum State: Equatable {
        case statusLine, fields
        /// This many bytes of the body are still to come.
        case fixed(Int)
        case untilClose
        case chunkSize
        /// This many bytes of the chunk are still to come.
        case chunk(Int)
        case chunkEnd
        case trailers, complete
    }

    private var state = State.statusLine
    /// The beginning of a line whose end has not come yet.
    private var line: [UInt8] = []
    private var headBytes = 0
    private var bodyBytes = 0
    private var framingBytes = 0
    private var interimAnswers = 0
    /// The fields of the head that matter.
    private var head = AnswerHead()
    /// How many bytes of the body are kept.
    private let bodyLimit: Int
    /// The beginning of the body.
    public private(set) var body: [UInt8] = []
    /// Whether a byte of an answer has come, interim answers included.
    public private(set) var hasBegun = false

    /// Makes a parser that keeps the first `bodyLimit` bytes of a body.
    public init(bodyLimit: Int) { self.bodyLimit = bodyLimit }

    /// Forgets the answer, to read the next one.
    public mutating func reset() {
        (state, headBytes, bodyBytes, framingBytes, interimAnswers, hasBegun) = (.statusLine, 0, 0, 0, 0, false)
        line.removeAll(keepingCapacity: true)
        body.removeAll(keepingCapacity: true)
        head.reset()
    }

    // MARK: The answer

    /// Whether the answer was read to its end.
    public var isComplete: Bool { state == .complete }
    /// The status of the answer; 0 before its status line has come.
    public var status: Int { head.status >= 200 ? head.status : 0 }
    /// Whether the head of the answer is complete.
    public var hasHead: Bool { state != .statusLine && state != .fields }
    /// Whether the connection may carry another request, once the answer is complete.
    public var keepsAlive: Bool { head.keepsAlive }
    /// The last Content-Type that is not empty, the first Location that is not empty, and the last Retry-After; empty when there is none.
    ///
    /// They are read at once, and by a method that could change the parser, because another kind of read of one that an object holds
    /// copies it.
    public mutating func texts() -> (contentType: String, location: String, retryAfter: String) {
        (
            String(decoding: head.contentType, as: UTF8.self), String(decoding: head.location, as: UTF8.self),
            String(decoding: head.retryAfter, as: UTF8.self)
        )
    }

    // MARK: Input

    /// Takes the next bytes of the connection.
    ///
    /// - Returns: how many of them belong to this answer; what follows a complete answer does not.
    public mutating func take(_ bytes: Span<UInt8>) throws(Failure) -> Int {
        if !bytes.isEmpty, state != .complete { hasBegun = true }
        var index = 0
        while index < bytes.count {
            switch state {
            case .complete: return index
            case .fixed(let left):
                let count = min(left, bytes.count - index)
                try takeBody(bytes.extracting(index..<(index + count)))
                state = count == left ? .complete : .fixed(left - count)
                index += count
            case .chunk(let left):
                let count = min(left, bytes.count - index)
                try takeBody(bytes.extracting(index..<(index + count)))
                state = count == left ? .chunkEnd : .chunk(left - count)
                index += count
            case .untilClose:
                try takeBody(bytes.extracting(index...))
                index = bytes.count
            case .statusLine, .fields, .chunkSize, .chunkEnd, .trailers: index = try takeLine(bytes, from: index)
            }
        }
        return index
    }

    /// Takes the end of the connection, which ends an answer of unknown length.
    public mutating func takeEnd() throws(Failure) {
        switch state {
        case .complete: break
        case .untilClose: state = .complete
        case .statusLine where !hasBegun: throw .endedEarly("the server closed the connection without an answer")
        case .statusLine, .fields: throw .endedEarly("the answer ended in the middle of its head")
        case .fixed, .chunkSize, .chunk, .chunkEnd, .trailers: throw .endedEarly("the answer ended in the middle of its body")
        }
    }

    private mutating func takeBody(_ bytes: Span<UInt8>) throws(Failure) {
        for index in 0..<min(bytes.count, bodyLimit - body.count) { body.append(bytes[index]) }
        bodyBytes += bytes.count
        guard bodyBytes <= AnswerBounds.body else { throw .excess(AnswerBounds.bodyExcess) }
    }

    // MARK: Lines

    /// Takes the rest of a line, or all bytes if its end is not among them; returns the index after them.
    private mutating func takeLine(_ bytes: Span<UInt8>, from start: Int) throws(Failure) -> Int {
        guard let end = bytes.firstIndex(of: 10, from: start) else {
            line.reserveCapacity(line.count + bytes.count - start)
            for index in start..<bytes.count { line.append(bytes[index]) }
            _ = try check(line.span)
            return bytes.count
        }
        if line.isEmpty {
            try take(line: bytes.extracting(start...end))
        } else {
            for index in start...end { line.append(bytes[index]) }
            let whole = line
            line = []
            try take(line: whole.span)
        }
        return end + 1
    }

    /// Counts a line, or its beginning, and refuses what no end can make good, so that an endless line ends here.
    ///
    /// - Returns: the bytes of head and of framing with this line.
    private func check(_ line: Span<UInt8>) throws(Failure) -> (head: Int, framing: Int) {
        var (head, framing) = (headBytes, framingBytes)
        switch state {
        case .statusLine:
            guard AnswerHead.beginsAsAnswer(line) else { throw .malformed(AnswerHead.noAnswer) }
            head += line.count
        case .fields: head += line.count
        // The empty line after the trailers does not count.
        case .trailers: if !Self.isEnd(line) { head += line.count }
        case .chunkSize: framing += max(0, line.count - Self.usualFraming)
        case .chunkEnd: guard Self.isEnd(line) else { throw .malformed("a chunk that is longer than its size") }
        case .fixed, .untilClose, .chunk, .complete: break
        }
        guard head <= AnswerBounds.head else { throw .excess(AnswerBounds.headExcess) }
        guard framing <= Self.mostFraming else { throw .excess(AnswerBounds.framingExcess) }
        return (head, framing)
    }

    /// Whether a line is a line end and nothing else, or the beginning of one.
    private static func isEnd(_ line: Span<UInt8>) -> Bool {
        line.isEmpty || line[0] == 13 && (line.count == 1 || line.count == 2 && line[1] == 10)
    }

    /// - Parameter line: a whole line with its line feed.
    private mutating func take(line: Span<UInt8>) throws(Failure) {
        (headBytes, framingBytes) = try check(line)
        // RFC 9112 §2.2: one reader may take a bare LF for the end of a line, and another may not.
        guard line.count >= 2, line[line.count - 2] == 13 else { throw .malformed("a line that ends in LF without CR") }
        let content = line.extracting(..<(line.count - 2))
        switch state {
        case .statusLine:
            try head.takeStatusLine(content)
            state = .fields
        case .fields: if content.isEmpty { try endHead() } else { try head.takeField(content) }
        case .trailers: if content.isEmpty { state = .complete } else { try AnswerHead.checkField(content) }
        case .chunkSize: try takeChunkSize(content)
        case .chunkEnd: state = .chunkSize
        case .fixed, .untilClose, .chunk, .complete: break
        }
    }

    /// RFC 9112 §6.3: how the end of the body is found.
    private mutating func endHead() throws(Failure) {
        if head.status < 200 {
            guard head.status != 101 else { throw .malformed("status 101, which was not asked for") }
            interimAnswers += 1
            guard interimAnswers <= Self.mostInterim else { throw .malformed("more than \(Self.mostInterim) interim answers") }
            head.reset()
            return state = .statusLine
        }
        switch try head.framing() {
        case .none: state = .complete
        case .length(let length): state = length == 0 ? .complete : .fixed(length)
        case .chunked: state = .chunkSize
        case .untilClose: state = .untilClose
        }
    }

    /// RFC 9112 §7.1; extensions are read and dropped.
    private mutating func takeChunkSize(_ content: Span<UInt8>) throws(Failure) {
        var (size, digits) = (0, 0)
        while digits < content.count, let value = Self.hexadecimal(content[digits]) {
            // More digits could exceed Int, and no chunk needs them.
            guard digits < 15 else { throw .malformed("a chunk size of too many digits") }
            (size, digits) = (size << 4 | value, digits + 1)
        }
        guard digits > 0 else { throw .malformed("a chunk without a size") }
        var index = digits
        while index < content.count, content[index] == 32 || content[index] == 9 { index += 1 }
        guard index == content.count || content[index] == UInt8(ascii: ";") else {
            throw .malformed("a chunk size that is not hexadecimal")
        }
        while index < content.count {
            guard AnswerHead.isText(content[index]) else { throw .malformed("a control character in a chunk extension") }
            index += 1
        }
        state = size == 0 ? .trailers : .chunk(size)
    }

    private static func hexadecimal(_ byte: UInt8) -> Int? {
        switch byte {
        case 48...57: Int(byte) - 48
        case 65...70: Int(byte) - 55
        case 97...102: Int(byte) - 87
        default: nil
        }
    }
}
