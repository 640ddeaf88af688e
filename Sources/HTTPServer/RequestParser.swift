import LinuxSystem

/// Parses request heads strictly: whatever RFC 9112 allows a server to refuse is refused, because two parsers of a lenient
/// message can disagree about where it ends.
package struct RequestParser {
    static let maximumLine = 8 * 1024
    static let maximumHead = 32 * 1024
    static let maximumFields = 128
    static let maximumEmptyLines = 16

    /// Why a request is refused, with the status to answer; the connection closes after it.
    struct Refusal: Error, Equatable {
        let status: Int
        let message: String

        static func malformed(_ message: String) -> Refusal { Refusal(status: 400, message: message) }
    }

    /// The result of parsing the bytes received so far.
    enum Progress {
        case incomplete
        /// A head, and the index after it.
        case head(RequestHead, end: Int)
    }

    private var head = RequestHead()
    private var hasTransferEncoding = false
    private var contentLength: Int?
    private var authority: Range<Int>?

    /// Parses the head at the start of `input`.
    ///
    /// - Parameter scanned: how many bytes an earlier call searched for the end of the head without finding it.
    static func parse(_ input: ArraySlice<UInt8>, scanned: Int = 0) throws(Refusal) -> Progress {
        var start = input.startIndex
        // RFC 9112 §2.2: empty lines before the request line are ignored; old clients send one after a body.
        while start + 1 < input.endIndex, input[start] == 13, input[start + 1] == 10 { start += 2 }
        guard start - input.startIndex <= maximumEmptyLines * 2 else { throw .malformed("too many empty lines before the request") }
        // RFC 9113 §3.4: a client that uses HTTP/2 without asking begins with this preface.
        if input[start...].starts(with: "PRI * HTTP/2.0".utf8) {
            throw Refusal(status: 505, message: "HTTP/2 is not spoken here; use HTTP/1.1")
        }
        // A first byte that no method can have is refused at once: a client that speaks TLS may never send the end of a line.
        if let first = input[start...].first, !first.isTokenByte, first != 13 || start + 1 < input.endIndex {
            throw .malformed("the method is no token")
        }
        let end = endOfHead(input[start...], from: max(start, input.startIndex + scanned))
        try checkSize(input[start..<(end ?? input.endIndex)])
        guard let end else { return .incomplete }
        var parser = RequestParser()
        parser.head.bytes = Array(input[start..<end])
        parser.head.fields.reserveCapacity(12)
        try parser.readLines()
        return .head(parser.head, end: end)
    }

    /// The index after the empty line that ends the head, or after a bare LF, which is refused later and need not wait for more
    /// bytes.
    private static func endOfHead(_ input: ArraySlice<UInt8>, from start: Int) -> Int? {
        let bytes = input.span
        var index = start - input.startIndex
        while let lineFeed = bytes.firstIndex(of: 10, from: index) {
            index = lineFeed + 1
            if lineFeed < 1 || bytes[lineFeed - 1] != 13 { return input.startIndex + index }
            if lineFeed >= 3, bytes[lineFeed - 2] == 10 { return input.startIndex + index }
        }
        return nil
    }

    private static func checkSize(_ head: ArraySlice<UInt8>) throws(Refusal) {
        let line = head.span.firstIndex(of: 10, from: 0) ?? head.count
        if line > maximumLine + 1 {
            throw Refusal(status: 414, message: "the request line is longer than \(maximumLine) bytes")
        }
        if head.count > maximumHead {
            throw Refusal(status: 431, message: "the request head is larger than \(maximumHead) bytes")
        }
    }

    private mutating func readLines() throws(Refusal) {
        var start = 0
        while true {
            guard let lineFeed = head.bytes.span.firstIndex(of: 10, from: start) else { throw .malformed("a line without an end") }
            // RFC 9112 §2.2: one parser may take a bare LF for the end of a line, and another may not.
            guard lineFeed > start, head.bytes[lineFeed - 1] == 13 else { throw .malformed("a line that ends in LF without CR") }
            let line = start..<(lineFeed - 1)
            if line.isEmpty { break }
            if start == 0 { try readRequestLine(line) } else { try readField(line) }
            start = lineFeed + 1
        }
        try finish()
    }

    // MARK: Request line, RFC 9112 §3

    private mutating func readRequestLine(_ line: Range<Int>) throws(Refusal) {
        guard let first = head.bytes[line].firstIndex(of: 32), let last = head.bytes[line].lastIndex(of: 32), first < last
        else { throw .malformed("the request line is not: method, target, version") }
        head.method = line.lowerBound..<first
        guard !head.method.isEmpty, head[head.method].allSatisfy(\.isTokenByte) else {
            throw .malformed("the method is no token")
        }
        head.isHEAD = head.equals(head.method, "HEAD")
        try readVersion((last + 1)..<line.upperBound)
        try readTarget((first + 1)..<last)
    }

    private mutating func readVersion(_ range: Range<Int>) throws(Refusal) {
        guard range.count == 8, head[range].starts(with: "HTTP/".utf8), head.bytes[range.lowerBound + 6] == UInt8(ascii: "."),
            let major = Self.digit(head.bytes[range.lowerBound + 5]), let minor = Self.digit(head.bytes[range.lowerBound + 7])
        else { throw .malformed("the request line does not end in an HTTP version") }
        guard major == 1 else { throw Refusal(status: 505, message: "HTTP/\(major).\(minor) is not spoken here; use HTTP/1.1") }
        head.minorVersion = UInt8(truncatingIfNeeded: minor)
    }

    private mutating func readTarget(_ range: Range<Int>) throws(Refusal) {
        let (isClean, hasFragment) = scan(range)
        guard isClean else { throw .malformed("the request target is empty or holds a space or a control character") }
        guard !hasFragment else { throw .malformed("the request target holds a fragment") }
        var rest = range
        if head[range].first != UInt8(ascii: "/") { rest = try readAuthority(range) }
        let question = head[rest].firstIndex(of: UInt8(ascii: "?"))
        head.path = rest.lowerBound..<(question ?? rest.upperBound)
        if let question { head.query = (question + 1)..<rest.upperBound }
    }

    /// Whether a target is free of spaces and control characters, and whether it has a fragment.
    private func scan(_ target: Range<Int>) -> (isClean: Bool, hasFragment: Bool) {
        let bytes = head.bytes.span.extracting(target)
        // Without a branch for each byte, many are looked at together.
        var unwanted: UInt8 = 0
        for index in bytes.indices { unwanted |= (bytes[index] <= 0x20 ? 1 : 0) | (bytes[index] == 0x7F ? 1 : 0) }
        return (!bytes.isEmpty && unwanted == 0, bytes.firstIndex(of: UInt8(ascii: "#"), from: 0) != nil)
    }

    /// Reads the authority of an absolute-form target (RFC 9112 §3.2.2), or the `*` of OPTIONS; returns the range of path and
    /// query.
    private mutating func readAuthority(_ range: Range<Int>) throws(Refusal) -> Range<Int> {
        if head.equals(range, "*"), head.equals(head.method, "OPTIONS") { return range }
        let schemes = ["http://", "https://"]
        guard let scheme = schemes.first(where: { head[range].prefix($0.utf8.count).map(\.lowercased).elementsEqual($0.utf8) })
        else { throw .malformed("the request target is neither a path nor an http URL") }
        let start = range.lowerBound + scheme.utf8.count
        let end = head.bytes[start..<range.upperBound].firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }
        authority = start..<(end ?? range.upperBound)
        guard let authority, Self.isHost(head[authority]) else { throw .malformed("the request target names no proper host") }
        return (end ?? range.upperBound)..<range.upperBound
    }

    // MARK: Fields, RFC 9112 §5

    private mutating func readField(_ line: Range<Int>) throws(Refusal) {
        // RFC 9112 §5.2: a line that begins with white space continues the line before it.
        guard head.bytes[line.lowerBound] != 32, head.bytes[line.lowerBound] != 9 else { throw .malformed("a folded header line") }
        // RFC 9112 §5.1: no white space is allowed between name and colon.
        let colon = lowerName(line)
        guard colon > line.lowerBound, colon < line.upperBound, head.bytes[colon] == UInt8(ascii: ":") else {
            throw .malformed("a header line without a proper name and colon")
        }
        guard head.fields.count < Self.maximumFields else {
            throw Refusal(status: 431, message: "more than \(Self.maximumFields) header lines")
        }
        var value = (colon + 1)..<line.upperBound
        while let first = head[value].first, first == 32 || first == 9 { value = (value.lowerBound + 1)..<value.upperBound }
        while let last = head[value].last, last == 32 || last == 9 { value = value.lowerBound..<(value.upperBound - 1) }
        // RFC 9110 §5.5: NUL, CR and other control characters are refused.
        guard head[value].allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 9 }) else {
            throw .malformed("a header value with a control character")
        }
        let field = RequestHead.Field(name: line.lowerBound..<colon, value: value)
        head.fields.append(field)
        try note(field)
    }

    /// Makes the token at the beginning of a line lower-case, and returns the index after it.
    private mutating func lowerName(_ line: Range<Int>) -> Int {
        var bytes = head.bytes.mutableSpan
        var index = line.lowerBound
        while index < line.upperBound, bytes[index].isTokenByte {
            bytes[index] = bytes[index].lowercased
            index += 1
        }
        return index
    }

    /// Notes the fields that frame the message or decide on the connection, RFC 9112 §6 and §9, and `Expect`.
    private mutating func note(_ field: RequestHead.Field) throws(Refusal) {
        switch head.bytes[field.name.lowerBound] {
        case UInt8(ascii: "c") where head.equals(field.name, "content-length"): try noteLength(head[field.value])
        case UInt8(ascii: "c") where head.equals(field.name, "connection"): noteConnection(head[field.value])
        case UInt8(ascii: "t") where head.equals(field.name, "transfer-encoding"): try noteEncoding(head[field.value])
        case UInt8(ascii: "e") where head.equals(field.name, "expect"):
            guard head[field.value].map(\.lowercased).elementsEqual("100-continue".utf8) else {
                throw Refusal(status: 417, message: "the only expectation met here is 100-continue")
            }
            head.expectsContinue = head.minorVersion >= 1
        default: break
        }
    }

    private mutating func noteLength(_ value: ArraySlice<UInt8>) throws(Refusal) {
        // RFC 9112 §6.3: a repeated or listed length is refused, even when all values agree.
        guard contentLength == nil else { throw .malformed("more than one Content-Length") }
        guard let length = Self.number(value) else { throw .malformed("Content-Length is not a number of bytes") }
        contentLength = length
    }

    private mutating func noteEncoding(_ value: ArraySlice<UInt8>) throws(Refusal) {
        guard !hasTransferEncoding else { throw .malformed("more than one Transfer-Encoding") }
        hasTransferEncoding = true
        // RFC 9112 §6.1: HTTP/1.0 has no transfer codings, so the end of the body could not be determined.
        guard head.minorVersion >= 1 else { throw .malformed("Transfer-Encoding in an HTTP/1.0 request") }
        let coding = value.map(\.lowercased)
        if coding.elementsEqual("chunked".utf8) { return }
        guard !coding.contains(UInt8(ascii: ",")), !coding.isEmpty else {
            throw .malformed("a Transfer-Encoding other than chunked alone")
        }
        throw Refusal(status: 501, message: "the only transfer coding understood here is chunked")
    }

    private mutating func noteConnection(_ value: ArraySlice<UInt8>) {
        for token in value.split(separator: UInt8(ascii: ",")) {
            let word = token.filter { $0 != 32 && $0 != 9 }.map(\.lowercased)
            if word.elementsEqual("close".utf8) { closes = true }
            if word.elementsEqual("keep-alive".utf8) { wantsKeepAlive = true }
        }
    }

    private var (closes, wantsKeepAlive) = (false, false)

    private mutating func finish() throws(Refusal) {
        try checkHost()
        // RFC 9112 §6.1: a message with both may be an attempt to smuggle a request.
        guard !hasTransferEncoding || contentLength == nil else { throw .malformed("both Content-Length and Transfer-Encoding") }
        head.framing = hasTransferEncoding ? .chunked : .length(contentLength ?? 0)
        head.keepsAlive = !closes && (head.minorVersion >= 1 || wantsKeepAlive)
    }

    /// RFC 9112 §3.2: HTTP/1.1 needs exactly one Host, equal to the host of an absolute-form target.
    private func checkHost() throws(Refusal) {
        guard head.fields.count(where: { head.equals($0.name, "host") }) <= 1 else { throw .malformed("more than one Host") }
        guard let host = head.fields.first(where: { head.equals($0.name, "host") }) else {
            if head.minorVersion >= 1 { throw .malformed("no Host") }
            return
        }
        guard host.value.isEmpty || Self.isHost(head[host.value]) else { throw .malformed("Host is no host") }
        if let authority {
            guard head[authority].map(\.lowercased) == head[host.value].map(\.lowercased) else {
                throw .malformed("the target's host differs from Host")
            }
        }
    }

    /// RFC 3986 §3.2.2: a name or an address, and an optional port. A comma is refused, because it could mean that two hosts were
    /// merged.
    private static func isHost(_ text: ArraySlice<UInt8>) -> Bool {
        var name = text
        if let colon = text.lastIndex(of: UInt8(ascii: ":")), text[(colon + 1)...].allSatisfy({ digit($0) != nil }) {
            name = text[..<colon]
        }
        if name.first == UInt8(ascii: "[") {
            let address = name.dropFirst().dropLast()
            return name.last == UInt8(ascii: "]") && !address.isEmpty && address.allSatisfy { isHexadecimal($0) || ":.".utf8.contains($0) }
        }
        let isEncoded = name.indices.allSatisfy { index in
            let digits = name[(index + 1)...].prefix(2)
            return name[index] != UInt8(ascii: "%") || digits.count == 2 && digits.allSatisfy(isHexadecimal)
        }
        return !name.isEmpty && isEncoded && name.allSatisfy(isHostByte)
    }

    // MARK: Bytes

    /// Whether a name of a host may contain the byte, RFC 3986 §3.2.2.
    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "#"), UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "|"): false
        case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: ";"), UInt8(ascii: "="): true
        default: byte.isTokenByte
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool { digit(byte) != nil || 97...102 ~= byte.lowercased }

    private static func digit(_ byte: UInt8) -> Int? { 48...57 ~= byte ? Int(byte) - 48 : nil }

    /// The value of decimal digits; nil for any other text, and for more than 18 digits, which no size has.
    package static func number(_ text: ArraySlice<UInt8>) -> Int? {
        guard !text.isEmpty, text.count <= 18 else { return nil }
        var number = 0
        for byte in text {
            guard let digit = digit(byte) else { return nil }
            number = number * 10 + digit
        }
        return number
    }
}
