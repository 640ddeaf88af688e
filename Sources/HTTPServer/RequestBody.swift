import LinuxSystem

/// The body of one request while it arrives, in the buffer that its profile will keep.
struct RequestBody: ~Copyable {
    /// Why a body is refused; the connection closes after it.
    enum Refusal: Error, Equatable {
        case tooLarge
        case malformed(String)
        /// There is no memory for it.
        case noRoom
    }

    private(set) var content = ByteBuffer()
    private let limit: Int
    private var state: State

    private enum State: Equatable {
        /// This many bytes are still to come.
        case fixed(Int)
        case chunkSize(digits: Int, size: Int)
        /// After white space behind the size; only an extension may follow.
        case chunkSpace(size: Int)
        case chunkExtension(size: Int, Quoting)
        case sizeLineFeed(size: Int)
        case chunkData(Int)
        case dataReturn, dataLineFeed
        /// With the number of trailer bytes read so far.
        case trailer(TrailerPart, Int)
        case complete
    }

    /// Where a chunk extension is, relative to a quoted string.
    private enum Quoting { case outside, inside, escape }

    /// Where a trailer line is; the CR of a line is distinct from the CR of the empty line at the end.
    private enum TrailerPart { case lineStart, name, value, lineReturn, endReturn }

    /// - Parameter limit: the most bytes the content may have.
    init(_ framing: RequestHead.Framing, limit: Int) throws(Refusal) {
        self.limit = limit
        switch framing {
        case .length(let length):
            guard length <= limit else { throw .tooLarge }
            state = length == 0 ? .complete : .fixed(length)
        case .chunked: state = .chunkSize(digits: 0, size: 0)
        }
    }

    var isComplete: Bool { state == .complete }

    /// The number of bytes, up to the next chunk framing, that can be received straight into the content.
    var directBytes: Int {
        switch state {
        case .fixed(let left), .chunkData(let left): left
        default: 0
        }
    }

    /// Lends the last bytes of the content to `body`.
    func withLast<R>(_ count: Int, _ body: (Span<UInt8>) -> R) -> R {
        content.withBytes { bytes in body(bytes.extracting(last: count)) }
    }

    /// Gives the content away.
    mutating func take() -> ByteBuffer {
        var taken = ByteBuffer()
        swap(&taken, &content)
        return taken
    }

    /// How much room to make after this many bytes: little at first, because the buffer grows with the bytes received, not with the
    /// size announced; then enough for most profiles, because each growth may copy what is there.
    private static func step(after count: Int) -> Int { count < 8 * 1024 ? 16 * 1024 : 256 * 1024 }

    /// Reads from a connection into the content, at most ``directBytes``.
    mutating func receive(from transport: borrowing Transport) throws(Refusal) -> Transfer {
        let direct = directBytes
        do throws(SystemError) {
            let result = try transport.receive(into: &content, room: min(direct, Self.step(after: content.count)), limit: direct)
            if case .done(let count) = result { state = advanced(by: count) }
            return result
        } catch { throw .noRoom }
    }

    private func advanced(by count: Int) -> State {
        switch state {
        case .fixed(let left): left == count ? .complete : .fixed(left - count)
        case .chunkData(let left): left == count ? .dataReturn : .chunkData(left - count)
        default: state
        }
    }

    /// Appends bytes that were read already.
    ///
    /// - Returns: the index after the last byte that belongs to this body.
    mutating func append(_ input: ArraySlice<UInt8>) throws(Refusal) -> Int {
        var index = input.startIndex
        while index < input.endIndex, state != .complete {
            let direct = directBytes
            if direct > 0 {
                let end = index + min(direct, input.endIndex - index)
                do throws(SystemError) {
                    // A sender that has sent this much usually sends the rest.
                    if end - index >= 8 * 1024 { try content.reserve(min(direct, Self.step(after: end - index))) }
                    try unsafe content.append(input[index..<end].span.bytes)
                } catch { throw .noRoom }
                state = advanced(by: end - index)
                index = end
            } else {
                try step(input[index])
                index += 1
            }
        }
        return index
    }

    /// Processes one byte of the chunk framing, RFC 9112 §7.1.
    private mutating func step(_ byte: UInt8) throws(Refusal) {
        switch state {
        case .chunkSize(let digits, let size): try stepSize(byte, digits, size)
        case .chunkSpace(let size):
            guard [32, 9, UInt8(ascii: ";")].contains(byte) else { throw .malformed("a chunk size that is not hexadecimal") }
            if byte == UInt8(ascii: ";") { state = .chunkExtension(size: size, .outside) }
        case .chunkExtension(let size, let quoting): try stepExtension(byte, size, quoting)
        case .sizeLineFeed(let size):
            guard byte == 10 else { throw .malformed("a chunk size that does not end in CRLF") }
            state = size == 0 ? .trailer(.lineStart, 0) : .chunkData(size)
        case .dataReturn:
            guard byte == 13 else { throw .malformed("a chunk that is longer than its size") }
            state = .dataLineFeed
        case .dataLineFeed:
            guard byte == 10 else { throw .malformed("a chunk that is longer than its size") }
            state = .chunkSize(digits: 0, size: 0)
        case .trailer(let part, let total): try stepTrailer(byte, part, total)
        case .fixed, .chunkData, .complete: break
        }
    }

    private static let maximumExtension = 4096
    private var extensionBytes = 0

    private mutating func stepSize(_ byte: UInt8, _ digits: Int, _ size: Int) throws(Refusal) {
        if let value = Self.hexadecimal(byte) {
            // Sixteen digits could exceed Int, and nobody needs more leading zeros.
            guard digits < 15 else { throw .malformed("a chunk size of too many digits") }
            return state = .chunkSize(digits: digits + 1, size: size * 16 + value)
        }
        guard digits > 0 else { throw .malformed("a chunk without a size") }
        guard size <= limit - content.count else { throw .tooLarge }
        switch byte {
        case 13: state = .sizeLineFeed(size: size)
        case 32, 9: state = .chunkSpace(size: size)
        case UInt8(ascii: ";"): state = .chunkExtension(size: size, .outside)
        default: throw .malformed("a chunk size that is not hexadecimal")
        }
    }

    /// RFC 9112 §7.1.1: unknown extensions are ignored, but bytes that could hide the end of the line are refused.
    private mutating func stepExtension(_ byte: UInt8, _ size: Int, _ quoting: Quoting) throws(Refusal) {
        if byte == 13 {
            // Parsers disagree here: one would look for the closing quote beyond this line, another would not.
            guard quoting == .outside else { throw .malformed("a chunk extension whose quotes do not close") }
            return state = .sizeLineFeed(size: size)
        }
        guard byte >= 0x20 && byte != 0x7F || byte == 9 else { throw .malformed("a control character in a chunk extension") }
        extensionBytes += 1
        guard extensionBytes <= Self.maximumExtension else { throw .malformed("chunk extensions that are too long") }
        switch (quoting, byte) {
        case (.outside, UInt8(ascii: "\"")), (.escape, _): state = .chunkExtension(size: size, .inside)
        case (.inside, UInt8(ascii: "\"")): state = .chunkExtension(size: size, .outside)
        case (.inside, UInt8(ascii: "\\")): state = .chunkExtension(size: size, .escape)
        default: break
        }
    }

    /// RFC 9112 §7.1.2: trailers are read and dropped. They must be well-formed fields, or the next request could hide among
    /// them.
    private mutating func stepTrailer(_ byte: UInt8, _ part: TrailerPart, _ total: Int) throws(Refusal) {
        guard total < RequestParser.maximumHead else { throw .malformed("trailers that are too long") }
        let next: TrailerPart
        switch (part, byte) {
        case (.endReturn, 10): return state = .complete
        case (.lineReturn, 10): next = .lineStart
        case (.endReturn, _), (.lineReturn, _), (_, 10): throw .malformed("a trailer line that does not end in CRLF")
        case (.lineStart, 13): next = .endReturn
        case (.value, 13): next = .lineReturn
        case (.name, UInt8(ascii: ":")): next = .value
        case (.lineStart, _), (.name, _):
            guard byte.isTokenByte else { throw .malformed("a trailer line without a proper name and colon") }
            next = .name
        case (.value, 0..<9), (.value, 11..<32), (.value, 127): throw .malformed("a control character in a trailer")
        case (.value, _): next = .value
        }
        state = .trailer(next, total + 1)
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
