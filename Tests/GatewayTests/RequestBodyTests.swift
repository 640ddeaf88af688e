import Glibc
import LinuxSystem
import Testing

@testable import HTTPServer
@testable import TestSupport

@Suite("Request bodies")
struct RequestBodyTests {
    /// The result of reading a body in pieces, as text: `"hello", 3 left`, `"he", incomplete`, `tooLarge`, `malformed("…")`.
    private static func outcome(_ pieces: [ArraySlice<UInt8>], _ framing: RequestHead.Framing, limit: Int) -> String {
        do throws(RequestBody.Refusal) {
            var body = try RequestBody(framing, limit: limit)
            var left = 0
            for piece in pieces { left += piece.endIndex - (try body.append(piece)) }
            let end = body.isComplete ? "\(left) left" : "incomplete"
            return "\(text(body.content).debugDescription), \(end)"
        } catch { return "\(error)" }
    }

    private static func outcome(_ text: String, _ framing: RequestHead.Framing = .chunked, limit: Int = 100) -> String {
        outcome([Array(text.utf8)[...]], framing, limit: limit)
    }

    private static func text(_ buffer: borrowing ByteBuffer) -> String {
        buffer.withBytes { bytes in bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
    }

    static let fixed: [(Int, String, String)] = [
        (0, "", #""", 0 left"#), (0, "next", #""", 4 left"#), (5, "hello", #""hello", 0 left"#), (5, "hello, world", #""hello", 7 left"#),
        (5, "hell", #""hell", incomplete"#), (5, "", #""", incomplete"#),
    ]

    static let chunked: [(String, String)] = [
        ("0\r\n\r\n", #""", 0 left"#),
        ("0\r\n\r\nnext", #""", 4 left"#),
        ("5\r\nhello\r\n0\r\n\r\n", #""hello", 0 left"#),
        ("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\nGET", #""hello, world", 3 left"#),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", #""01234567890123456789", 0 left"#),
        ("005\r\nhello\r\n000\r\n\r\n", #""hello", 0 left"#),
        ("5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", #""hello", 0 left"#),
        ("5 ;a\r\nhello\r\n0\t;b\r\n\r\n", #""hello", 0 left"#),
        ("5;a=\"b;\\\"c\\\\\"\r\nhello\r\n0\r\n\r\n", #""hello", 0 left"#),
        ("5\r\nhello\r\n0\r\nA: b\r\nC:\td\r\n\r\nX", #""hello", 1 left"#),
        ("2\r\n\r\n\r\n0\r\n\r\n", #""\r\n", 0 left"#),
        ("5\r\nhel", #""hel", incomplete"#),
        ("5\r\nhello\r\n0\r\n", #""hello", incomplete"#),
        ("5\r\nhello\r\n0\r\nA: b\r\n", #""hello", incomplete"#),
        ("\r\n", #"malformed("a chunk without a size")"#),
        (";a\r\n", #"malformed("a chunk without a size")"#),
        (" 5\r\n", #"malformed("a chunk without a size")"#),
        ("g\r\n", #"malformed("a chunk without a size")"#),
        ("-5\r\n", #"malformed("a chunk without a size")"#),
        ("+5\r\n", #"malformed("a chunk without a size")"#),
        ("5g\r\n", #"malformed("a chunk size that is not hexadecimal")"#),
        ("0x5\r\n", #"malformed("a chunk size that is not hexadecimal")"#),
        ("5,\r\n", #"malformed("a chunk size that is not hexadecimal")"#),
        ("5\nhello", #"malformed("a chunk size that is not hexadecimal")"#),
        ("5\r\r\nhello", #"malformed("a chunk size that does not end in CRLF")"#),
        ("5\rhello", #"malformed("a chunk size that does not end in CRLF")"#),
        ("5;a\nhello", #"malformed("a control character in a chunk extension")"#),
        ("5;\0\r\nhello", #"malformed("a control character in a chunk extension")"#),
        ("5;\u{7f}\r\nhello", #"malformed("a control character in a chunk extension")"#),
        ("5;a=\"\r\nhello\r\n0\r\n\r\n", #"malformed("a chunk extension whose quotes do not close")"#),
        ("5;a=\"\\\"\r\nhello\r\n0\r\n\r\n", #"malformed("a chunk extension whose quotes do not close")"#),
        ("5\r\nhello0\r\n\r\n", #"malformed("a chunk that is longer than its size")"#),
        ("5\r\nhello\n0\r\n\r\n", #"malformed("a chunk that is longer than its size")"#),
        ("5\r\nhello\r0\r\n\r\n", #"malformed("a chunk that is longer than its size")"#),
        ("0\r\nA: b\n\r\n", #"malformed("a trailer line that does not end in CRLF")"#),
        ("0\r\n\n", #"malformed("a trailer line that does not end in CRLF")"#),
        ("0\r\n\rA", #"malformed("a trailer line that does not end in CRLF")"#),
        ("0\r\nA: b\rC\r\n", #"malformed("a trailer line that does not end in CRLF")"#),
        ("0\r\nA\r\n\r\n", #"malformed("a trailer line without a proper name and colon")"#),
        ("0\r\n: b\r\n\r\n", #"malformed("a trailer line without a proper name and colon")"#),
        ("0\r\nA : b\r\n\r\n", #"malformed("a trailer line without a proper name and colon")"#),
        ("0\r\nA: b\r\n c\r\n\r\n", #"malformed("a trailer line without a proper name and colon")"#),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", #"malformed("a trailer line without a proper name and colon")"#),
        ("0\r\nA: \0\r\n\r\n", #"malformed("a control character in a trailer")"#),
        ("0\r\nA: \u{7f}\r\n\r\n", #"malformed("a control character in a trailer")"#),
    ]

    @Test("A fixed body ends at its length", arguments: fixed)
    func readsFixed(length: Int, input: String, expected: String) {
        #expect(Self.outcome(input, .length(length)) == expected)
    }

    @Test("A chunked body consists of its chunks, and malformed chunks are refused", arguments: chunked)
    func readsChunked(input: String, expected: String) {
        #expect(Self.outcome(input) == expected)
    }

    @Test("A body gives the same result in one piece, in two pieces and byte by byte")
    func splits() {
        let cases = Self.fixed.map { (RequestHead.Framing.length($0.0), $0.1, $0.2) } + Self.chunked.map { (.chunked, $0.0, $0.1) }
        for (framing, text, expected) in cases {
            let input = Array(text.utf8)
            for index in 0...input.count {
                #expect(
                    Self.outcome([input[..<index], input[index...]], framing, limit: 100) == expected,
                    "\(text.debugDescription) at \(index)")
            }
            #expect(Self.outcome(input.indices.map { input[$0...$0] }, framing, limit: 100) == expected, "\(text.debugDescription)")
        }
    }

    @Test("Only an extension may follow a chunk's size", arguments: ["5 5\r\nhello", "5 x\r\nhello", "5\t0;a\r\nhello"])
    func junkAfterSize(input: String) {
        #expect(Self.outcome(input).hasPrefix("malformed"))
    }

    // MARK: Limits

    @Test("A fixed body above the limit is refused before it arrives", arguments: [(4, true), (5, true), (6, false), (Int.max, false)])
    func fixedLimit(length: Int, isAccepted: Bool) {
        #expect((Self.outcome("", .length(length), limit: 5) == "tooLarge") == !isAccepted)
    }

    @Test(
        "A chunked body is refused at the chunk size that exceeds the limit",
        arguments: [
            ("4\r\nhell\r\n0\r\n\r\n", #""hell", 0 left"#), ("5\r\nhello\r\n0\r\n\r\n", #""hello", 0 left"#), ("6\r\n", "tooLarge"),
            ("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", #""hello", 0 left"#), ("3\r\nhel\r\n3\r\n", "tooLarge"),
            ("fffffffffffffff\r\n", "tooLarge"),
        ])
    func chunkedLimit(input: String, expected: String) {
        #expect(Self.outcome(input, limit: 5) == expected)
    }

    @Test("A chunk size may have up to fifteen digits", arguments: [(14, #""hello", incomplete"#), (15, #""hello", incomplete"#)])
    func digits(count: Int, expected: String) {
        let size = String(repeating: "0", count: count - 1) + "5"
        #expect(Self.outcome("\(size)\r\nhello\r\n") == expected)
        #expect(Self.outcome("\(String(repeating: "0", count: 15))5\r\n") == #"malformed("a chunk size of too many digits")"#)
    }

    @Test("The extensions of all chunks together are limited", arguments: [(4095, true), (4096, true), (4097, false)])
    func extensions(count: Int, isAccepted: Bool) {
        let half = count / 2
        let input = "1;\(String(repeating: "x", count: half))\r\nh\r\n0;\(String(repeating: "x", count: count - half))\r\n\r\n"
        #expect(Self.outcome(input) == (isAccepted ? #""h", 0 left"# : #"malformed("chunk extensions that are too long")"#))
    }

    @Test("Trailers have the same limit as a request head", arguments: [(-1, true), (0, true), (1, false)])
    func trailers(excess: Int, isAccepted: Bool) {
        let trailer = "X: " + String(repeating: "x", count: RequestParser.maximumHead + excess - "X: \r\n\r\n".utf8.count)
        #expect(Self.outcome("0\r\n\(trailer)\r\n\r\n") == (isAccepted ? #""", 0 left"# : #"malformed("trailers that are too long")"#))
    }

    // MARK: Sockets and garbage

    @Test("Reading from a socket stops at the end of the body or the chunk", arguments: [RequestHead.Framing.length(5), .chunked])
    func socket(framing: RequestHead.Framing) throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let near = FileDescriptor(owning: ends[0])
        let far = FileDescriptor(owning: ends[1])
        try near.writeAll(Array("hello, world".utf8).span.bytes)
        var body = try RequestBody(framing, limit: 100)
        if framing == .chunked { #expect(try body.append(Array("5\r\n".utf8)[...]) == 3) }
        #expect(body.directBytes == 5)
        #expect(try body.receive(from: Transport(far)) == .done(5))
        #expect(body.directBytes == 0)
        #expect(body.isComplete == (framing != .chunked))
        #expect(Self.text(body.content) == "hello")
    }

    @Test("Mutated input gives the same result in one piece and byte by byte, without a crash")
    func garbage() {
        var random = SeededRandom()
        for _ in 0..<3000 {
            let input = random.mutated(Array(Self.chunked[random.below(Self.chunked.count)].0.utf8)) + random.bytes(upTo: 8, of: "05f\r\n;")
            let whole = Self.outcome([input[...]], .chunked, limit: 20)
            #expect(Self.outcome(input.indices.map { input[$0...$0] }, .chunked, limit: 20) == whole, "\(input)")
        }
    }
}
