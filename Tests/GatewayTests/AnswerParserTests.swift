import PushWire
import Testing

@Suite("The strict reader of answers")
struct AnswerParserTests {
    /// What a reader made of an answer and the end of its connection.
    private struct Reading: Equatable {
        var status = 0
        var body = ""
        var used = 0
        var isComplete = false
        var keepsAlive = false
        var failure: AnswerParser.Failure?
    }

    /// Reads an answer in pieces of this size, and then the end of the connection.
    private static func read(_ text: String, by size: Int = .max, limit: Int = 1 << 20, isCut: Bool = true) -> Reading {
        let bytes = Array(text.utf8)
        var (parser, reading) = (AnswerParser(bodyLimit: limit), Reading())
        do throws(AnswerParser.Failure) {
            var index = 0
            while index < bytes.count {
                let end = min(bytes.count, index + min(size, bytes.count))
                let used = try parser.take(bytes.span.extracting(index..<end))
                reading.used += used
                guard used == end - index else { break }
                index = end
            }
            if isCut { try parser.takeEnd() }
        } catch { reading.failure = error }
        (reading.status, reading.body) = (parser.status, String(decoding: parser.body, as: UTF8.self))
        (reading.isComplete, reading.keepsAlive) = (parser.isComplete, parser.keepsAlive)
        return reading
    }

    private static func ok(_ fields: String, _ body: String = "") -> String { "HTTP/1.1 200 OK\r\n\(fields)\r\n\(body)" }
    private static let chunked = "Transfer-Encoding: chunked\r\n"

    // MARK: What is taken

    /// Answers with their status, their body, and whether the connection may be used again.
    static let good: [(text: String, status: Int, body: String, keepsAlive: Bool)] = [
        (ok("Content-Length: 2\r\n", "ok"), 200, "ok", true), (ok("content-LENGTH:\t 2 \t\r\n", "ok"), 200, "ok", true),
        (ok("Content-Length: 0\r\n"), 200, "", true), (ok("", "until the end"), 200, "until the end", false),
        (ok("Content-Length: 0\r\nConnection: close\r\n"), 200, "", false),
        (ok("Content-Length: 0\r\nConnection: a , CLOSE\r\n"), 200, "", false),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", true), ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, "", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, "a", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true), ("HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", 204, "", true),
        ("HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", 304, "", true),
        ("HTTP/1.1 999 \u{fc}\r\nContent-Length: 0\r\n\r\n", 999, "", true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + ok("Content-Length: 1\r\n", "a"), 200, "a", true),
        (ok(chunked, "2\r\nok\r\n0\r\n\r\n"), 200, "ok", true),
        (ok("Transfer-Encoding: Chunked\r\n", "A;b=\"c\"\r\n0123456789\r\n000\r\nT: u\r\n\r\n"), 200, "0123456789", true),
        (ok(chunked, "1 ;a\r\na\r\n1\r\nb\r\n0\r\n\r\n"), 200, "ab", true),
    ]

    @Test("An answer is read to its end, however it is cut into pieces", arguments: good)
    func whole(row: (text: String, status: Int, body: String, keepsAlive: Bool)) {
        for size in [1, 2, 3, 7, Int.max] {
            let expected = Reading(
                status: row.status, body: row.body, used: row.text.utf8.count, isComplete: true, keepsAlive: row.keepsAlive)
            #expect(Self.read(row.text, by: size) == expected)
        }
    }

    @Test("What follows an answer is not taken", arguments: good.filter(\.keepsAlive))
    func following(row: (text: String, status: Int, body: String, keepsAlive: Bool)) {
        let reading = Self.read(row.text + "HTTP/1.1 500 No\r\n\r\n")
        #expect(reading.isComplete && reading.status == row.status && reading.used == row.text.utf8.count)
    }

    @Test("A reader that is reset remembers nothing")
    func reset() throws {
        var parser = AnswerParser(bodyLimit: 100)
        for text in ["HTTP/1.0 503 No\r\nRetry-After: 7\r\nContent-Type: a/b\r\nLocation: /x\r\n\r\nab", Self.ok("Content-Length: 0\r\n")] {
            parser.reset()
            _ = try parser.take(Array(text.utf8).span)
            try parser.takeEnd()
        }
        let texts = parser.texts()
        #expect(texts == ("", "", "") && parser.body == [] && parser.keepsAlive)
    }

    @Test("Content-Type, Location and Retry-After are those of the answer itself")
    func fields() throws {
        var parser = AnswerParser(bodyLimit: 100)
        let text =
            "HTTP/1.1 103 Early\r\nContent-Type: no/no\r\nRetry-After: 1\r\n\r\nHTTP/1.1 307 Go\r\ncontent-type: a/b \r\nContent-Type:\r\n"
            + "LOCATION:\r\nLocation: /first\r\nLocation: /second\r\nRetry-After: 2\r\nretry-after: 3\r\nContent-Length: 0\r\n\r\n"
        _ = try parser.take(Array(text.utf8).span)
        let texts = parser.texts()
        #expect(texts == ("a/b", "/first", "3"))
    }

    // MARK: What is refused

    /// Answers that are refused, with what is wrong.
    static let bad: [(text: String, what: String)] = [
        ("SSH-2.0-OpenSSH_9.2\r\n", "no status line"), ("\r\nHTTP/1.1 200 OK\r\n\r\n", "no status line"),
        ("HTTP/2 200\r\n\r\n", "no status line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "no status line"), ("HTTP/1.1  200 OK\r\n\r\n", "a status line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "a status line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "a status line"), ("HTTP/1.1 099 OK\r\n\r\n", "a status line"),
        ("HTTP/1.1\t200 OK\r\n\r\n", "no status line"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "a control character"), ("HTTP/1.1 200 O\rK\r\n\r\n", "a control character"),
        ("HTTP/1.1 200 OK\n\r\n", "a line that ends in LF"), (ok("A: b\n"), "a line that ends in LF"),
        ("HTTP/1.1 200 OK\r\n\n", "a line that ends in LF"),
        (ok(" A: b\r\n"), "a folded"), (ok("A: b\r\n\tc\r\n"), "a folded"), (ok("A : b\r\n"), "a proper name"),
        (ok(": b\r\n"), "a proper name"),
        (ok("no colon\r\n"), "a proper name"), (ok("A: b\0c\r\n"), "a control character"), (ok("A: b\rc\r\n"), "a control character"),
        (ok("A\0: b\r\n"), "a proper name"), (ok("Content-Length: 1\r\nContent-Length: 1\r\n"), "more than one Content-Length"),
        (ok("Content-Length: 1\r\nContent-Length: 2\r\n"), "more than one Content-Length"), (ok("Content-Length: 1, 1\r\n"), "no number"),
        (ok("Content-Length: -1\r\n"), "no number"), (ok("Content-Length: +1\r\n"), "no number"),
        (ok("Content-Length: 0x1\r\n"), "no number"),
        (ok("Content-Length: \r\n"), "no number"), (ok("Content-Length: 1000000000000000000\r\n"), "no number"),
        (ok("Content-Length: 1\r\n" + chunked), "both"), (ok(chunked + "Content-Length: 1\r\n"), "both"),
        (ok(chunked + chunked), "more than one Transfer"),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), "other than chunked"), (ok("Transfer-Encoding: identity\r\n"), "other than chunked"),
        (ok("Transfer-Encoding: \r\n"), "other than chunked"), ("HTTP/1.0 200 OK\r\n" + chunked + "\r\n", "HTTP/1.0"),
        ("HTTP/1.1 101 Switch\r\nUpgrade: a\r\n\r\n", "status 101"), (ok(chunked, "\r\n"), "without a size"),
        (ok(chunked, "g\r\n"), "without a size"),
        (ok(chunked, "-1\r\n"), "without a size"), (ok(chunked, "1x\r\n"), "not hexadecimal"), (ok(chunked, "1 1\r\n"), "not hexadecimal"),
        (ok(chunked, "1\na\r\n"), "a line that ends in LF"), (ok(chunked, "1\r\nab\r\n"), "longer than its size"),
        (ok(chunked, "1\r\na\n"), "longer than its size"),
        (ok(chunked, "1\r\na\r\r\n"), "longer than its size"), (ok(chunked, "1;\0\r\n"), "a control character"),
        (ok(chunked, "1234567890123456\r\n"), "too many digits"), (ok(chunked, "0\r\n A: b\r\n"), "a folded"),
        (ok(chunked, "0\r\nA\r\n"), "a proper name"),
        (ok(chunked, "0\r\n\n"), "ends in LF"),
    ]

    @Test("A malformed answer is refused, however it is cut into pieces", arguments: bad)
    func malformed(row: (text: String, what: String)) {
        for size in [1, 2, 5, Int.max] {
            guard case .malformed(let what) = Self.read(row.text, by: size).failure else {
                Issue.record("taken by \(size): \(row.text.debugDescription)")
                continue
            }
            #expect(what.contains(row.what.replacing("a proper", with: "without a proper")), "\(row.text.debugDescription)")
        }
    }

    @Test("What is no answer is refused before its line ends", arguments: ["S", "HTTP/2", "HTTP/1,", "\r", "\0", "<html>"])
    func early(text: String) { #expect(Self.read(text, isCut: false).failure == .malformed("no status line of HTTP/1.1")) }

    @Test("An answer that is cut off is no answer")
    func cut() {
        let text = Self.ok(Self.chunked, "2\r\nok\r\n0\r\nA: b\r\n\r\n")
        for count in 0..<text.utf8.count {
            let reading = Self.read(String(decoding: text.utf8.prefix(count), as: UTF8.self))
            guard case .endedEarly(let sentence) = reading.failure else {
                Issue.record("\(count) bytes are enough")
                continue
            }
            #expect(!reading.isComplete && sentence.contains(count == 0 ? "without an answer" : count < 47 ? "its head" : "its body"))
        }
        for body in ["a", "ab"] { #expect(Self.read(Self.ok("Content-Length: 2\r\n", body)).isComplete == (body == "ab")) }
    }

    // MARK: Bounds

    @Test("A head of 64 KiB is taken, and not a byte more, whatever its lines are", arguments: [-1, 0, 1], [100, 1000, 70_000])
    func head(beyond: Int, line: Int) {
        var text = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n"
        let most = AnswerBounds.head + beyond - 2
        while most - text.utf8.count > line + 20 { text += "A: \(String(repeating: "b", count: line - 5))\r\n" }
        text += "Z: \(String(repeating: "z", count: most - text.utf8.count - 5))\r\n\r\n"
        #expect(text.utf8.count == AnswerBounds.head + beyond)
        for size in [1000, Int.max] {
            let reading = Self.read(text, by: size)
            #expect(reading.isComplete == (beyond <= 0) && reading.status == 400)
            if beyond > 0 { #expect(reading.failure == .excess("more than 64 KiB of head and trailers")) }
        }
    }

    @Test("Trailers count as head, and their empty line does not", arguments: [-1, 0, 1])
    func trailers(beyond: Int) {
        let head = Self.ok(Self.chunked)
        let trailer = "T: \(String(repeating: "t", count: AnswerBounds.head + beyond - head.utf8.count - 5))\r\n"
        for size in [1000, Int.max] {
            #expect(Self.read("\(head)0\r\n\(trailer)\r\n", by: size).isComplete == (beyond <= 0))
        }
    }

    @Test("A body of 1 MiB is taken, and not a byte more", arguments: [-1, 0, 1], ["length", "chunks", "end"])
    func body(beyond: Int, framing: String) {
        let body = String(repeating: "b", count: AnswerBounds.body + beyond)
        let text =
            switch framing {
            case "length": Self.ok("Content-Length: \(body.utf8.count)\r\n", body)
            case "chunks": Self.ok(Self.chunked, "\(String(body.utf8.count, radix: 16))\r\n\(body)\r\n0\r\n\r\n")
            default: Self.ok("", body)
            }
        let reading = Self.read(text, by: 10_000, limit: 16)
        #expect(reading.isComplete == (beyond <= 0) && reading.body == String(repeating: "b", count: 16))
        if beyond > 0 { #expect(reading.failure == .excess("a body of more than 1 MiB")) }
    }

    @Test("Framing without a body is bounded, also within one line", arguments: [-1, 0, 1], [1, 16])
    func framing(beyond: Int, chunks: Int) {
        let (most, each) = (AnswerParser.mostFraming, AnswerParser.mostFraming / chunks)
        let sizes = (0..<chunks).map { chunk in
            let framing = AnswerParser.usualFraming + each + (chunk == 0 ? beyond : 0)
            return "1\(String(repeating: ";", count: framing - 3))\r\na\r\n"
        }
        let reading = Self.read(Self.ok(Self.chunked, sizes.joined() + "0\r\n\r\n"), by: 999)
        #expect(reading.isComplete == (beyond <= 0))
        if beyond > 0 { #expect(reading.failure == .excess("nothing but framing")) }
        let endless = Self.read(
            Self.ok(Self.chunked, "1;" + String(repeating: "e", count: most + AnswerParser.usualFraming)), by: 999, isCut: false)
        #expect(endless.failure == .excess("nothing but framing"))
    }

    @Test("Interim answers are bounded", arguments: [-1, 0, 1])
    func interim(beyond: Int) {
        let text = String(repeating: "HTTP/1.1 102 On\r\n\r\n", count: AnswerParser.mostInterim + beyond) + Self.ok("Content-Length: 0\r\n")
        #expect(Self.read(text).isComplete == (beyond <= 0))
    }

    @Test("The size of a chunk has up to fifteen digits", arguments: [14, 15, 16])
    func digits(count: Int) {
        let size = String(repeating: "0", count: count - 1) + "1"
        #expect(Self.read(Self.ok(Self.chunked, "\(size)\r\na\r\n0\r\n\r\n")).isComplete == (count <= 15))
    }
}
