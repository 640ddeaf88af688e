import PushWire
import Testing

@Suite("Texts that the head of an outgoing request may have")
struct WrittenHeadTests {
    /// The reason why a header is refused, or nil when it is accepted.
    private static func refusal(_ name: String, _ value: String) -> String? {
        do throws(WrittenHead.Refusal) { try WrittenHead.check((name, value)) } catch { return error.reason }
        return nil
    }

    @Test("A value with any control character except a tab is refused with an error that does not show it", arguments: 0...0x7F)
    func values(code: Int) {
        let character = Unicode.Scalar(UInt8(code)).description
        let isControl = code < 0x20 && code != 0x09 || code == 0x7F
        for value in ["hidden\(character)", "\(character)hidden", "hid\(character)den", character] {
            let refusal = Self.refusal("X-Some", value)
            #expect((refusal != nil) == isControl, "\(code)")
            if let refusal { #expect(refusal.hasPrefix("the header X-Some holds") && !refusal.contains("hid")) }
        }
    }

    @Test("A value may be empty or have any other bytes", arguments: ["", " ", "é\u{80}\u{202e}", "a: b; c=\"d\", e"])
    func goodValues(value: String) { #expect(Self.refusal("X", value) == nil) }

    @Test(
        "A name is a token (RFC 9110 §5.6.2)",
        arguments: [
            ("X-A", true), ("!#$%&'*+-.^_`|~09azAZ", true), ("", false), ("a b", false), ("a ", false), ("a:", false), ("a\r\nB", false),
            ("a\0", false), ("ä", false), ("a/b", false), ("a\t", false),
        ])
    func names(name: String, isGood: Bool) { #expect((Self.refusal(name, "v") == nil) == isGood) }

    @Test(
        "A target has no white space and no control character",
        arguments: [
            ("/ingest?name=a%7Bb%3Dc%7D&x=<\"'^`{}\\é", true), ("/ingest?name=a b", false), ("/a\tb", false), ("/a?b\r\nX: y", false),
            ("/a\n", false), ("/a\0", false), ("/a\u{7f}", false), ("http://h:1/p", true),
        ])
    func targets(target: String, isGood: Bool) {
        var isTaken = true
        do throws(WrittenHead.Refusal) { try WrittenHead.check(target: target) } catch { isTaken = false }
        #expect(isTaken == isGood)
    }
}
