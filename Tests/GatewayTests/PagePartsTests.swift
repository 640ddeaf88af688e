import LinuxSystem
import Telemetry
import Testing

@testable import Gateway
@testable import HTTPServer

@Suite("Parts of the admin listener's page")
struct PagePartsTests {
    @Test("A text that is put into HTML is escaped, and HTML is not escaped twice")
    func escaping() {
        let text = "<a href=\"x\" onclick='y'>&\u{0}\u{202E}\n\u{1B}é</a>"
        let inner: HTML = "<b title=\"\(text)\">\(text)</b>"
        let outer: HTML = "<p>\(inner)\([inner, inner])\(3)</p>"
        let safe = "&lt;a href=&quot;x&quot; onclick=&#39;y&#39;&gt;&amp;\u{FFFD}\u{FFFD} \u{FFFD}é&lt;/a&gt;"
        let expected = "<b title=\"\(safe)\">\(safe)</b>"
        #expect(inner.text == expected)
        #expect(outer.text == "<p>\(expected)\(expected)\(expected)3</p>")
    }

    @Test(
        "Rates are readable",
        arguments: [
            (0, "0"), (0.004, "0"), (0.42, "0.42"), (7.06, "7.1"), (99.94, "99.9"), (12_300, "12\u{202F}300"), (.infinity, "0"),
            (.nan, "0"),
            (1e300, "1\u{202F}000\u{202F}000\u{202F}000\u{202F}000\u{202F}000"),
        ] as [(Double, String)])
    func rates(value: Double, text: String) { #expect(ReadableNumber.rate(value) == text) }

    @Test(
        "Times are readable",
        arguments: [
            (-1, "0 s"), (0.0004, "0.4 ms"), (0.085, "85 ms"), (0.85, "850 ms"), (1.25, "1.25 s"), (12.3, "12 s"), (90, "90 s"),
            (600, "10 min"), (7200, "2 h"), (.nan, "0 s"),
            (1e300, "1\u{202F}000\u{202F}000\u{202F}000 h"),
        ] as [(Double, String)])
    func seconds(value: Double, text: String) { #expect(ReadableNumber.seconds(value) == text) }

    @Test("The ring keeps the samples of 15 minutes, and its oldest ones go", arguments: [0, 1, 180, 181, 182, 400])
    func ring(added: Int) {
        var ring = SampleRing()
        for number in 0..<added { ring.add(Sample(profiles: number)) }
        let kept = min(added, 181)
        #expect(ring.inOrder.map(\.profiles) == Array((added - kept)..<added))
        #expect(ring.last?.profiles == (added == 0 ? nil : added - 1))
    }

    @Test("So many requests have a place, and one that has ended makes room", arguments: [1, 8])
    func places(most: Int) {
        let places = Places(most)
        #expect(places.areFree)
        for _ in 0..<most { #expect(places.take()) }
        for _ in 0..<3 { #expect(!places.take(), "none is free, and refused ones take none") }
        places.giveBack()
        #expect(places.take() && !places.take() && !places.areFree)
        for _ in 0..<most { places.giveBack() }
        #expect(places.areFree)
    }

    @Test("A reader that is behind by more than the room is disconnected", arguments: [(99, true), (100, true), (101, false)])
    func feed(bytes: Int, isOpen: Bool) {
        let released = Counter()
        var feed: Response.Feed? = Response.Feed(room: 100) { released.add() }
        #expect(feed?.send([UInt8](repeating: 1, count: bytes - 1)) == true)
        #expect(feed?.send([2]) == isOpen)
        #expect(feed?.send([]) == isOpen, "it stays so")
        switch feed?.next(isBlocked: false) {
        case .bytes(let taken): #expect(isOpen && taken.count == bytes)
        case .overrun: #expect(!isOpen)
        default: Issue.record("neither bytes nor an end")
        }
        #expect(released.value == 0)
        feed?.release()
        #expect(feed?.send([1]) == false)
        feed = nil
        #expect(released.value == 1, "once")
    }

    @Test("A feed that was never begun is released, and one that has ended sends what it had")
    func feedEnds() {
        let released = Counter()
        _ = Response.Feed(room: 1) { released.add() }
        #expect(released.value == 1)
        let feed = Response.Feed(room: 10) {}
        feed.send([1, 2])
        feed.end()
        #expect(!feed.send([3]))
        guard case .nothing = feed.next(isBlocked: true), case .bytes([1, 2]) = feed.next(isBlocked: false),
            case .ended = feed.next(isBlocked: false)
        else {
            Issue.record("the bytes come before the end")
            return
        }
    }

    @Test("A part of a multipart body is found by its name")
    func multipart() {
        let type = "multipart/form-data; boundary=\"x y\""
        func body(_ parts: [(String, String)]) -> [UInt8] {
            Array(
                (parts.map { "--x y\r\nContent-Disposition: form-data; name=\"\($0.0)\"; filename=a\r\n\r\n\($0.1)\r\n" }.joined()
                    + "--x y--\r\n").utf8)
        }
        func find(_ body: [UInt8], _ type: String) -> String? {
            MultipartPart.content(named: "profile", in: body, contentType: type).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(find(body([("sample_type_config", "{}"), ("profile", "bytes\r\n--x")]), type) == "bytes\r\n--x")
        #expect(find(body([("profile", "")]), type) == "")
        #expect(find(body([("other", "a")]), type) == nil)
        #expect(find(body([("profile", "a")]), "multipart/form-data") == nil)
        #expect(find(body([("profile", "a")]), "multipart/form-data; boundary=other") == nil)
        #expect(find(Array(body([("profile", "a")]).dropLast(12)), type) == nil, "the part has no end")
        let many = [(String, String)](repeating: ("other", "a"), count: 15)
        #expect(find(body(many + [("profile", "last")]), type) == "last")
        #expect(find(body(many + [("other", "a"), ("profile", "beyond")]), type) == nil)
    }

    /// The content that is found in a body with one part that has this head; nil when none is found.
    private func multipart(head: String, boundary: String = "x") -> String? {
        let body = "--\(boundary)\r\n\(head)\r\n\r\nbytes\r\n--\(boundary)--\r\n"
        return MultipartPart.content(named: "profile", in: Array(body.utf8), contentType: "multipart/form-data; boundary=\(boundary)")
            .map { String(decoding: $0, as: UTF8.self) }
    }

    @Test(
        "A part's name is what its head says, and not what a file's name says",
        arguments: [
            ("; name=profile", true), (";NAME=\"profile\"; filename=a", true), ("; filename=\"a;b\"; name=\"profile\"", true),
            ("; filename=\"a\\\"; name=b\"; name=profile", true), ("; filename=\"; name=profile\"", false),
            ("; filename=\"a\\\"; name=profile\"", false), ("; name=profiles", false), ("; name=\"profile", true), ("", false),
        ])
    func multipartName(parameters: String, isFound: Bool) {
        #expect((multipart(head: "X: y\r\nCONTENT-Disposition: form-data\(parameters)") != nil) == isFound)
        #expect(multipart(head: "X-Content-Disposition: form-data\(parameters)") == nil)
    }

    @Test("A boundary may have 70 bytes", arguments: [(1, true), (69, true), (70, true), (71, false)])
    func multipartBoundary(count: Int, isRead: Bool) {
        let found = multipart(head: "Content-Disposition: form-data; name=profile", boundary: String(repeating: "b", count: count))
        #expect(found == (isRead ? "bytes" : nil))
    }

    @Test("A part's head may have 8192 bytes", arguments: [(8191, true), (8192, true), (8193, false)])
    func multipartHead(count: Int, isRead: Bool) {
        let head = "Content-Disposition: form-data; name=profile\r\nX: "
        // The line break after the boundary counts.
        #expect(multipart(head: head + String(repeating: "y", count: count - head.utf8.count - 2)) == (isRead ? "bytes" : nil))
    }
}
