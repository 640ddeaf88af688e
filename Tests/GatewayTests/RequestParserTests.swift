import Testing

@testable import HTTPServer
@testable import TestSupport

@Suite("Request heads")
struct RequestParserTests {
    /// The result of parsing a request, as text: `incomplete`, `400`, `length 5, keeps`, `chunked, closes`.
    private static func outcome(_ input: [UInt8], scanned: Int = 0) -> String {
        do throws(RequestParser.Refusal) {
            switch try RequestParser.parse(input[...], scanned: scanned) {
            case .incomplete: return "incomplete"
            case .head(let head, _):
                let framing =
                    switch head.framing {
                    case .length(let length): "length \(length)"
                    case .chunked: "chunked"
                    }
                return "\(framing), \(head.keepsAlive ? "keeps" : "closes")\(head.expectsContinue ? ", expects" : "")"
            }
        } catch { return "\(error.status)" }
    }

    /// The text of a head with these lines.
    private static func head(_ lines: String...) -> String { lines.joined(separator: "\r\n") + "\r\n\r\n" }

    /// A POST with these lines after its Host.
    private static func post(_ lines: String...) -> String {
        (["POST /ingest?name=a HTTP/1.1", "Host: a"] + lines).joined(separator: "\r\n") + "\r\n\r\n"
    }

    static let accepted: [(String, String)] = [
        (post(), "length 0, keeps"),
        (post("Content-Length: 5"), "length 5, keeps"),
        (post("content-length:\t5 "), "length 5, keeps"),
        (post("Content-Length: 0"), "length 0, keeps"),
        (post("Content-Length: 007"), "length 7, keeps"),
        (post("Content-Length: 999999999999999999"), "length 999999999999999999, keeps"),
        (post("Transfer-Encoding: chunked"), "chunked, keeps"),
        (post("TRANSFER-ENCODING: Chunked"), "chunked, keeps"),
        (post("Connection: close"), "length 0, closes"),
        (post("Connection: Close"), "length 0, closes"),
        (post("Connection: keep-alive"), "length 0, keeps"),
        (post("Connection: te , close"), "length 0, closes"),
        (post("Connection: keep-alive, close"), "length 0, closes"),
        (post("Connection: te", "Connection: close"), "length 0, closes"),
        (post("Expect: 100-continue", "Content-Length: 5"), "length 5, keeps, expects"),
        (post("Expect: 100-Continue"), "length 0, keeps, expects"),
        (post("X: \u{fc}\t\u{2192} \"#$%\""), "length 0, keeps"),
        (post("X:"), "length 0, keeps"),
        (post("!#$%&'*+-.^_`|~09: x"), "length 0, keeps"),
        (head("GET / HTTP/1.0"), "length 0, closes"),
        (head("GET / HTTP/1.0", "Connection: keep-alive"), "length 0, keeps"),
        (head("GET / HTTP/1.0", "Connection: keep-alive, close"), "length 0, closes"),
        (head("GET / HTTP/1.0", "Expect: 100-continue"), "length 0, closes"),
        (head("GET / HTTP/1.2", "Host: a"), "length 0, keeps"),
        (head("GET / HTTP/1.1", "Host:"), "length 0, keeps"),
        (head("GET / HTTP/1.1", "Host: [::1]:9999"), "length 0, keeps"),
        (head("GET / HTTP/1.1", "Host: a_b.%41:"), "length 0, keeps"),
        (head("GET http://a/x?y HTTP/1.1", "Host: a"), "length 0, keeps"),
        (head("GET HTTPS://A:80 HTTP/1.1", "Host: a:80"), "length 0, keeps"),
        (head("GET http://a?x HTTP/1.1", "Host: a"), "length 0, keeps"),
        (head("GET http://a/ HTTP/1.0"), "length 0, closes"),
        (head("OPTIONS * HTTP/1.1", "Host: a"), "length 0, keeps"),
        (head("GET /\u{fc}%zz HTTP/1.1", "Host: a"), "length 0, keeps"),
        ("\r\n" + post(), "length 0, keeps"),
        ("\r\n\r\n" + post(), "length 0, keeps"),
        (post() + "rest \n", "length 0, keeps"),
    ]

    static let incomplete: [(String, String)] = [
        ("", "incomplete"), ("\r", "incomplete"), ("\r\n", "incomplete"), ("G", "incomplete"), ("PRI * HTTP/2.", "incomplete"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"), ("GET / HTTP/1.1\r\nHost: a\r\n\r", "incomplete"),
    ]

    static let smuggling: [(String, String)] = [
        (post("Content-Length: 5", "Content-Length: 6"), "400"),
        (post("Content-Length: 5", "Content-Length: 5"), "400"),
        (post("Content-Length: 5, 5"), "400"),
        (post("Content-Length: 5,"), "400"),
        (post("Content-Length:"), "400"),
        (post("Content-Length: +5"), "400"),
        (post("Content-Length: -5"), "400"),
        (post("Content-Length: 0x5"), "400"),
        (post("Content-Length: 5 5"), "400"),
        (post("Content-Length: 5.0"), "400"),
        (post("Content-Length: \u{665}"), "400"),
        (post("Content-Length: 1000000000000000000"), "400"),
        (post("Content-Length: 99999999999999999999999"), "400"),
        (post("Content-Length: 5", "Transfer-Encoding: chunked"), "400"),
        (post("Transfer-Encoding: chunked", "Content-Length: 5"), "400"),
        (post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "400"),
        (post("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), "400"),
        (post("Transfer-Encoding: chunked, gzip"), "400"),
        (post("Transfer-Encoding: gzip, chunked"), "400"),
        (post("Transfer-Encoding: chunked, chunked"), "400"),
        (post("Transfer-Encoding: chunked,"), "400"),
        (post("Transfer-Encoding:"), "400"),
        (post("Transfer-Encoding: \u{b}chunked"), "400"),
        (post("Transfer-Encoding: gzip"), "501"),
        (post("Transfer-Encoding: identity"), "501"),
        (post("Transfer-Encoding: xchunked"), "501"),
        (post("Transfer-Encoding: chunked;q=1"), "501"),
        (head("POST / HTTP/1.0", "Transfer-Encoding: chunked"), "400"),
        ("POST / HTTP/1.1\nHost: a\n\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\n\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\n", "400"),
        ("\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("\rPOST / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (post("X: y", " folded"), "400"),
        (post("X: y", "\tContent-Length: 5"), "400"),
        (head("POST / HTTP/1.1", " Host: a"), "400"),
        (post("Content-Length : 5"), "400"),
        (post("Content-Length\t: 5"), "400"),
        (post("Content Length: 5"), "400"),
        (post(": 5"), "400"),
        (post("X"), "400"),
        (post("X\0: y"), "400"),
        (post("X\u{fc}: y"), "400"),
        (post("X(: y"), "400"),
        (post("X: a\0b"), "400"),
        (post("X: a\u{1}b"), "400"),
        (post("X: a\u{7f}b"), "400"),
        (post("X: a\rb"), "400"),
    ]

    static let hosts: [(String, String)] = [
        (head("GET / HTTP/1.1"), "400"),
        (head("GET / HTTP/1.1", "Host: a", "Host: a"), "400"),
        (head("GET / HTTP/1.1", "Host: a", "HOST: b"), "400"),
        (head("GET / HTTP/1.0", "Host: a", "Host: b"), "400"),
        (head("GET / HTTP/1.1", "Host: a b"), "400"),
        (head("GET / HTTP/1.1", "Host: a, b"), "400"),
        (head("GET / HTTP/1.1", "Host: a/b"), "400"),
        (head("GET / HTTP/1.1", "Host: a:b"), "400"),
        (head("GET / HTTP/1.1", "Host: a:1:2"), "400"),
        (head("GET / HTTP/1.1", "Host: :80"), "400"),
        (head("GET / HTTP/1.1", "Host: ::1"), "400"),
        (head("GET / HTTP/1.1", "Host: [::1"), "400"),
        (head("GET / HTTP/1.1", "Host: [a.example]"), "400"),
        (head("GET / HTTP/1.1", "Host: a<b"), "400"),
        (head("GET / HTTP/1.1", "Host: \u{e4}"), "400"),
        (head("GET / HTTP/1.1", "Host: a%4"), "400"),
        (head("GET http://u@a/ HTTP/1.0"), "400"),
        (head("GET http://a:b/ HTTP/1.0"), "400"),
        (head("GET http://a/ HTTP/1.1", "Host: b"), "400"),
        (head("GET http://a/ HTTP/1.1", "Host: a:80"), "400"),
        (head("GET http://a/ HTTP/1.1"), "400"),
        (head("GET http://u@a/ HTTP/1.1", "Host: a"), "400"),
        (head("GET http:///x HTTP/1.1", "Host: a"), "400"),
        (head("GET http:// HTTP/1.1", "Host:"), "400"),
    ]

    static let requestLines: [(String, String)] = [
        (head("GET / HTTP/2.0", "Host: a"), "505"),
        (head("GET / HTTP/0.9", "Host: a"), "505"),
        (head("GET / HTTP/3.0", "Host: a"), "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("PRI * HTTP/2.0", "505"),
        ("\u{16}\u{3}\u{1}", "400"),
        (" ", "400"),
        ("\rG", "400"),
        ("\r\n\0", "400"),
        (head("GET /", "Host: a"), "400"),
        (head("GET", "Host: a"), "400"),
        (head("GET / http/1.1", "Host: a"), "400"),
        (head("GET / HTTP/1.10", "Host: a"), "400"),
        (head("GET / HTTP/1,1", "Host: a"), "400"),
        (head("GET / HTTP/x.1", "Host: a"), "400"),
        (head("GET / HTTP/1.1 ", "Host: a"), "400"),
        (head("GET  / HTTP/1.1", "Host: a"), "400"),
        (head("GET /  HTTP/1.1", "Host: a"), "400"),
        (head("GET /a b HTTP/1.1", "Host: a"), "400"),
        (head("GET /a\tb HTTP/1.1", "Host: a"), "400"),
        (head("GET /\0 HTTP/1.1", "Host: a"), "400"),
        (head("GET /\u{7f} HTTP/1.1", "Host: a"), "400"),
        (head("GET /#x HTTP/1.1", "Host: a"), "400"),
        (head("GET  HTTP/1.1", "Host: a"), "400"),
        (head(" / HTTP/1.1", "Host: a"), "400"),
        (head("G(T / HTTP/1.1", "Host: a"), "400"),
        (head("GET * HTTP/1.1", "Host: a"), "400"),
        (head("CONNECT a:80 HTTP/1.1", "Host: a:80"), "400"),
        (head("GET ftp://a/ HTTP/1.1", "Host: a"), "400"),
        (head("GET x HTTP/1.1", "Host: a"), "400"),
        (post("Expect: 200-ok"), "417"),
        (post("Expect:"), "417"),
        (post("Expect: 100-continue, x"), "417"),
    ]

    @Test("A valid head has its framing and says whether the connection stays open", arguments: accepted)
    func accepts(request: String, expected: String) {
        #expect(Self.outcome(Array(request.utf8)) == expected)
    }

    @Test("A head without its end is incomplete", arguments: incomplete)
    func waits(request: String, expected: String) {
        #expect(Self.outcome(Array(request.utf8)) == expected)
    }

    @Test("A head that two readers could frame differently is refused", arguments: smuggling)
    func refusesSmuggling(request: String, status: String) {
        #expect(Self.outcome(Array(request.utf8)) == status)
    }

    @Test("A head without exactly one valid host is refused", arguments: hosts)
    func refusesHost(request: String, status: String) {
        #expect(Self.outcome(Array(request.utf8)) == status)
    }

    @Test("An invalid request line and an unknown expectation are refused", arguments: requestLines)
    func refusesRequestLine(request: String, status: String) {
        #expect(Self.outcome(Array(request.utf8)) == status)
    }

    @Test("The parts of a head are found, and its field names are in lower case")
    func parts() throws {
        let input = Array("\r\nPOST http://h/a/b?x=1?2 HTTP/1.1\r\nHOST: h\r\nX-A:  1 \r\nx-a: 2\r\n\r\nbody".utf8)
        guard case .head(let head, let end) = try RequestParser.parse(input[...]) else { throw IncompleteHead() }
        #expect(input[end...].elementsEqual("body".utf8))
        #expect([head.method, head.path, head.query].map { String(decoding: head[$0], as: UTF8.self) } == ["POST", "/a/b", "x=1?2"])
        #expect(head.values(of: "x-a").map { String(decoding: $0, as: UTF8.self) } == ["1", "2"])
        #expect(head.value(of: "x-a")?.elementsEqual("1".utf8) == true)
        #expect(head.value(of: "x-b") == nil)
    }

    private struct IncompleteHead: Error {}

    @Test("A head in the middle of a buffer is read within its slice")
    func slice() throws {
        let request = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        let input = Array("\r\n\r\n".utf8) + request + Array("GET".utf8)
        guard case .head(_, let end) = try RequestParser.parse(input[4..<(4 + request.count)]) else { throw IncompleteHead() }
        #expect(end == 4 + request.count)
    }

    // MARK: Limits

    @Test("A request line has a limited length", arguments: [(-1, "length 0, keeps"), (0, "length 0, keeps"), (1, "414"), (9000, "414")])
    func longLine(excess: Int, expected: String) {
        let frame = "GET / HTTP/1.1".utf8.count
        let target = "/" + String(repeating: "x", count: RequestParser.maximumLine + excess - frame)
        #expect(Self.outcome(Array(Self.head("GET \(target) HTTP/1.1", "Host: a").utf8)) == expected)
    }

    @Test("A request line without an end is refused beyond the limit", arguments: [(1, "incomplete"), (2, "414")])
    func endlessLine(excess: Int, expected: String) {
        #expect(Self.outcome([UInt8](repeating: 120, count: RequestParser.maximumLine + excess)) == expected)
    }

    @Test("A head has a limited size", arguments: [(-1, "length 0, keeps"), (0, "length 0, keeps"), (1, "431"), (9000, "431")])
    func largeHead(excess: Int, expected: String) {
        let padding = RequestParser.maximumHead + excess - Self.post("X: ").utf8.count
        #expect(Self.outcome(Array(Self.post("X: " + String(repeating: "x", count: padding)).utf8)) == expected)
    }

    @Test("A head without an end is refused beyond the limit", arguments: [(0, "incomplete"), (1, "431")])
    func endlessHead(excess: Int, expected: String) {
        let start = Array("GET / HTTP/1.1\r\nX: ".utf8)
        let padding = [UInt8](repeating: 120, count: RequestParser.maximumHead + excess - start.count)
        #expect(Self.outcome(start + padding) == expected)
    }

    @Test("Bytes after a head do not count towards its limit")
    func largeBody() {
        #expect(Self.outcome(Array(Self.post().utf8) + [UInt8](repeating: 120, count: 100_000)) == "length 0, keeps")
    }

    @Test("Empty lines before the request count towards the head's limit")
    func endlessEmptyLines() {
        let lines = [[UInt8]](repeating: [13, 10], count: RequestParser.maximumHead / 2 + 1).flatMap { $0 }
        #expect(["400", "431"].contains(Self.outcome(lines)))
    }

    @Test("A head has a limited number of fields", arguments: [(-1, "length 0, keeps"), (0, "length 0, keeps"), (1, "431")])
    func manyFields(excess: Int, expected: String) {
        let lines = ["Host: a"] + (1..<(RequestParser.maximumFields + excess)).map { "X\($0): y" }
        #expect(Self.outcome(Array(("GET / HTTP/1.1\r\n" + lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)) == expected)
    }

    // MARK: Pieces and garbage

    /// The first outcome that is not `incomplete` when `input` arrives byte by byte, parsed like on a connection.
    private static func outcomeByteByByte(_ input: [UInt8]) -> String {
        var scanned = 0
        for count in 1...max(1, input.count) {
            let outcome = outcome(Array(input.prefix(count)), scanned: scanned)
            guard outcome == "incomplete" else { return outcome }
            scanned = max(0, count - 3)
        }
        return "incomplete"
    }

    @Test("A head gives the same result byte by byte as in one piece", arguments: [accepted, incomplete, smuggling, hosts, requestLines])
    func byteByByte(table: [(String, String)]) {
        for (request, expected) in table { #expect(Self.outcomeByteByByte(Array(request.utf8)) == expected, "\(request.debugDescription)") }
    }

    @Test("Random and mutated heads give the same result in one piece and byte by byte, without a crash")
    func garbage() {
        var random = SeededRandom()
        let seeds = (Self.accepted + Self.smuggling).map { Array($0.0.utf8) }
        for round in 0..<3000 {
            let input =
                round % 4 == 0 ? random.bytes(upTo: 60, of: "GET /*:HTP1. \r\n\r\na") : random.mutated(seeds[random.below(seeds.count)])
            #expect(Self.outcome(input) == Self.outcomeByteByByte(input), "\(input)")
        }
    }

    @Test("Only the bytes of RFC 9110 are token bytes")
    func tokens() {
        let allowed = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
        for byte in UInt8.min...UInt8.max { #expect(byte.isTokenByte == allowed.contains(byte), "\(byte)") }
    }
}
