import LinuxSystem

/// The status line of an answer, and those of its fields that matter to a client.
struct AnswerHead: Sendable {
    /// How the end of the body is found (RFC 9112 §6.3).
    enum Framing { case none, length(Int), chunked, untilClose }

    private(set) var status = 0
    private(set) var contentType: [UInt8] = []
    private(set) var location: [UInt8] = []
    private(set) var retryAfter: [UInt8] = []
    private var minorVersion = 1
    private var contentLength: Int?
    private var hasTransferEncoding = false
    private var closes = false
    private var wantsKeepAlive = false
    private var endsWithConnection = false

    mutating func reset() {
        (status, minorVersion, contentLength, hasTransferEncoding) = (0, 1, nil, false)
        (closes, wantsKeepAlive, endsWithConnection) = (false, false, false)
        contentType.removeAll(keepingCapacity: true)
        location.removeAll(keepingCapacity: true)
        retryAfter.removeAll(keepingCapacity: true)
    }

    /// Whether the connection may carry another request after the answer (RFC 9112 §9.3).
    var keepsAlive: Bool { !closes && !endsWithConnection && (minorVersion == 1 || wantsKeepAlive) }

    // MARK: Status line, RFC 9112 §4

    static let noAnswer = "no status line of HTTP/1.1"
    /// `HTTP/1.`
    private static let begin: [7 of UInt8] = [72, 84, 84, 80, 47, 49, 46]

    /// Whether a line, or its beginning, can be a status line.
    static func beginsAsAnswer(_ line: Span<UInt8>) -> Bool {
        for index in 0..<Swift.min(line.count, begin.count) where line[index] != begin[index] { return false }
        return true
    }

    mutating func takeStatusLine(_ line: Span<UInt8>) throws(AnswerParser.Failure) {
        guard Self.beginsAsAnswer(line), line.count >= 12, line[8] == 32, let minor = Self.digit(line[7]), minor <= 1 else {
            throw .malformed(Self.noAnswer)
        }
        guard let hundreds = Self.digit(line[9]), let tens = Self.digit(line[10]), let ones = Self.digit(line[11]), hundreds > 0,
            line.count == 12 || line[12] == 32
        else { throw .malformed("a status line without a status of three digits") }
        // A server may leave out the reason, and the space before it too.
        for index in 12..<line.count where !Self.isText(line[index]) { throw .malformed("a control character in the status line") }
        (status, minorVersion) = (hundreds * 100 + tens * 10 + ones, minor)
    }

    // MARK: Fields, RFC 9112 §5

    mutating func takeField(_ line: Span<UInt8>) throws(AnswerParser.Failure) {
        let (name, value) = try Self.split(line)
        switch (name.count, line[0] | 0x20) {
        case (8, UInt8(ascii: "l")) where Self.equals(line, name, "location"):
            if location.isEmpty { Self.copy(line, value, to: &location) }
        case (10, UInt8(ascii: "c")) where Self.equals(line, name, "connection"): noteConnection(line, value)
        case (11, UInt8(ascii: "r")) where Self.equals(line, name, "retry-after"): Self.copy(line, value, to: &retryAfter)
        case (12, UInt8(ascii: "c")) where Self.equals(line, name, "content-type"):
            if !value.isEmpty { Self.copy(line, value, to: &contentType) }
        case (14, UInt8(ascii: "c")) where Self.equals(line, name, "content-length"):
            // RFC 9112 §6.3: a repeated length is refused even when the values agree.
            guard contentLength == nil else { throw .malformed("more than one Content-Length") }
            guard let length = Self.number(line, value) else { throw .malformed("a Content-Length that is no number of bytes") }
            contentLength = length
        case (17, UInt8(ascii: "t")) where Self.equals(line, name, "transfer-encoding"):
            guard !hasTransferEncoding else { throw .malformed("more than one Transfer-Encoding") }
            guard Self.equals(line, value, "chunked") else { throw .malformed("a Transfer-Encoding other than chunked alone") }
            hasTransferEncoding = true
        default: break
        }
    }

    /// Checks a field whose content does not matter, as those of trailers.
    static func checkField(_ line: Span<UInt8>) throws(AnswerParser.Failure) { _ = try split(line) }

    /// The name of a field, and its value without the white space around it.
    private static func split(_ line: Span<UInt8>) throws(AnswerParser.Failure) -> (name: Range<Int>, value: Range<Int>) {
        // RFC 9112 §5.2: a line that begins with white space continues the line before it.
        guard line[0] != 32, line[0] != 9 else { throw .malformed("a folded header line") }
        var colon = 0
        while colon < line.count, line[colon].isTokenByte { colon += 1 }
        // RFC 9112 §5.1: no white space is allowed between name and colon.
        guard colon > 0, colon < line.count, line[colon] == UInt8(ascii: ":") else {
            throw .malformed("a header line without a proper name and colon")
        }
        var (start, end) = (colon + 1, line.count)
        while start < end, line[start] == 32 || line[start] == 9 { start += 1 }
        while end > start, line[end - 1] == 32 || line[end - 1] == 9 { end -= 1 }
        for index in start..<end where !isText(line[index]) { throw .malformed("a header value with a control character") }
        return (0..<colon, start..<end)
    }

    private mutating func noteConnection(_ line: Span<UInt8>, _ value: Range<Int>) {
        var start = value.lowerBound
        while start < value.upperBound {
            var end = start
            while end < value.upperBound, line[end] != UInt8(ascii: ",") { end += 1 }
            var word = start..<end
            while let last = word.last, line[last] == 32 || line[last] == 9 { word.removeLast() }
            while let first = word.first, line[first] == 32 || line[first] == 9 { word.removeFirst() }
            if Self.equals(line, word, "close") { closes = true }
            if Self.equals(line, word, "keep-alive") { wantsKeepAlive = true }
            start = end + 1
        }
    }

    // MARK: Framing, RFC 9112 §6

    /// How the body of the final answer ends.
    mutating func framing() throws(AnswerParser.Failure) -> Framing {
        // RFC 9112 §6.1 and §6.3: an answer with both may have been made to be read in two ways.
        guard !hasTransferEncoding || contentLength == nil else { throw .malformed("both Content-Length and Transfer-Encoding") }
        guard !hasTransferEncoding || minorVersion == 1 else { throw .malformed("a Transfer-Encoding in an answer of HTTP/1.0") }
        if status == 204 || status == 304 { return .none }
        if hasTransferEncoding { return .chunked }
        if let contentLength { return .length(contentLength) }
        endsWithConnection = true
        return .untilClose
    }

    // MARK: Bytes

    /// Whether a byte may stand in a value, a reason or a chunk extension (RFC 9110 §5.5).
    static func isText(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7F || byte == 9 }

    private static func digit(_ byte: UInt8) -> Int? { 48...57 ~= byte ? Int(byte) - 48 : nil }

    /// The value of decimal digits; nil for any other text, and for more than 18 digits, which no size has.
    private static func number(_ line: Span<UInt8>, _ range: Range<Int>) -> Int? {
        guard 1...18 ~= range.count else { return nil }
        var number = 0
        for index in range {
            guard let digit = digit(line[index]) else { return nil }
            number = number * 10 + digit
        }
        return number
    }

    /// Whether a part of a line is a text in lower case, whatever the case of the part.
    private static func equals(_ line: Span<UInt8>, _ range: Range<Int>, _ text: String) -> Bool {
        let (part, expected) = (line.extracting(range), text.utf8.span)
        guard part.count == expected.count else { return false }
        for index in part.indices where part[index].lowercased != expected[index] { return false }
        return true
    }

    private static func copy(_ line: Span<UInt8>, _ range: Range<Int>, to text: inout [UInt8]) {
        text.removeAll(keepingCapacity: true)
        text.reserveCapacity(range.count)
        for index in range { text.append(line[index]) }
    }
}
