import LinuxSystem
import Testing

@testable import HTTPServer
@testable import ProfileAPI

@Suite("gRPC-Web")
struct GRPCWebTests {
    /// The message of a body, or the error.
    private static func outcome(_ body: [UInt8]) -> String {
        do throws(PushFailure) {
            let message = try GRPCWeb.message(body.span)
            return "\(message.isCompressed ? "gzip " : "")\(String(decoding: body[message.range], as: UTF8.self))"
        } catch { return "\(error.code.rawValue): \(error.message)" }
    }

    private static func frame(_ text: String, _ flags: UInt8 = 0) -> [UInt8] { GRPCWeb.frame(Array(text.utf8), flags: flags) }

    static let bodies: [([UInt8], String)] = [
        (frame(""), ""), (frame("abc"), "abc"), (frame("abc", 1), "gzip abc"), (frame("abc") + frame("x: y\r\n", 0x80), "abc"),
        (frame("abc") + frame("", 0x81), "abc"), (frame(String(repeating: "x", count: 70_000)), String(repeating: "x", count: 70_000)),
        ([], "unimplemented: no message in a unary call"), (frame("", 0x80), "unimplemented: no message in a unary call"),
        (frame("a") + frame("b"), "unimplemented: more than one message in a unary call"),
        ([0], "invalid_argument: the body ends inside a frame's prefix"),
        ([0, 0, 0, 0], "invalid_argument: the body ends inside a frame's prefix"),
        (frame("a") + [0], "invalid_argument: the body ends inside a frame's prefix"),
        ([0, 0, 0, 0, 2, 65], "invalid_argument: promised 2 bytes in a frame, got 1"),
        ([0, 255, 255, 255, 255], "invalid_argument: promised 4294967295 bytes in a frame, got 0"),
        (frame("a", 2), "invalid_argument: a frame with unknown flags 2"),
        (frame("a", 0x43), "invalid_argument: a frame with unknown flags 67"),
    ]

    @Test("The body of a unary call has one message, and may have trailers after it", arguments: bodies)
    func message(body: [UInt8], outcome: String) { #expect(Self.outcome(body) == outcome) }

    static let timeouts: [(String, Duration?)] = [
        ("0S", .zero), ("10S", .seconds(10)), ("99999999H", .seconds(99_999_999 * 3600)), ("2M", .seconds(120)), ("5m", .milliseconds(5)),
        ("7u", .microseconds(7)), ("8n", .nanoseconds(8)), ("100000000n", nil), ("", nil), ("S", nil), ("10", nil), ("10s", nil),
        ("-1S", nil),
        ("1.5S", nil), ("10 S", nil),
    ]

    @Test("A Grpc-Timeout has up to eight digits and a unit", arguments: timeouts)
    func timeout(text: String, span: Duration?) { #expect((try? GRPCWeb.timeout(Array(text.utf8)[...])) == span) }

    @Test("The trailers have the status, and a message that is safe in a header")
    func trailers() {
        let fine = GRPCWeb.trailers(nil, "")
        #expect(fine == [0x80, 0, 0, 0, 32] + Array("grpc-status: 0\r\ngrpc-message: \r\n".utf8))
        let text = String(decoding: GRPCWeb.trailers(.invalidArgument, "50% of \u{fc}\r\nx").dropFirst(5), as: UTF8.self)
        #expect(text == "grpc-status: 3\r\ngrpc-message: 50%25 of %C3%BC%0D%0Ax\r\n")
    }

    static let texts: [(String, String?)] = [
        ("", ""), ("YQ==", "a"), ("YQ==Yg==", "ab"), ("YWI=YWJj", "ababc"), ("YWJj", "abc"), ("Y", nil), ("YQ==!", nil), ("====", nil),
        ("YQ=", nil),
    ]

    @Test("The text form may consist of several base64 pieces, each with its own padding", arguments: texts)
    func text(text: String, decoded: String?) {
        var bytes = ByteBuffer()
        let isDecoded = (try? GRPCWeb.decode(Array(text.utf8).span, into: &bytes)) != nil
        #expect(isDecoded == (decoded != nil))
        if let decoded { #expect(bytes.withBytes { bytes in bytes.indices.map { bytes[$0] } } == Array(decoded.utf8)) }
    }

    @Test("Bytes that are encoded in base64 decode to the same bytes", arguments: 0...10)
    func base64(count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: 250 + $0) }
        var decoded = ByteBuffer()
        let text = Base64.encode(bytes)
        #expect(text.count % 4 == 0)
        try Base64.decode(text.span, into: &decoded)
        #expect(decoded.withBytes { bytes in bytes.indices.map { bytes[$0] } } == bytes)
    }
}
