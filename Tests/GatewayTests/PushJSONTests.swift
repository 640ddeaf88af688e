import LinuxSystem
import Testing

@testable import ProfileAPI
@testable import TestSupport

@Suite("Push requests in JSON")
struct PushJSONTests {
    /// A summary of the message, or why it is refused.
    static func outcome(_ bytes: [UInt8]) -> String {
        var decoded = ByteBuffer()
        do throws(DecodedPush.Malformed) {
            let request = try PushJSON.parse(bytes.span, samples: &decoded)
            return request.summary(decoded.withBytes { span in span.withUnsafeBytes { Array($0) } })
        } catch { return "refused: \(error.reason)" }
    }

    private static func outcome(_ text: String) -> String { outcome(Array(text.utf8)) }

    private static func labels(_ text: String) -> String { "{\"series\":[{\"labels\":[\(text)]}]}" }
    private static func sample(_ members: String) -> String { "{\"series\":[{\"samples\":[{\(members)}]}]}" }
    private static func value(_ content: String) -> String { labels("{\"name\":\"a\",\"value\":\"\(content)\"}") }

    private static let whole = """
        {"series":[{"labels":[{"name":"b","value":"2"},{"value":"1","name":"a"}],
        "samples":[{"rawProfile":"b25l","ID":"x"},{"ID":"y","raw_profile":"dHdv"}]}]}
        """

    static let accepted: [(String, String)] = [
        ("{}", ""), (" \t\r\n{ } \n", ""), ("{\"series\":[]}", ""), ("{\"series\":[{}]}", ""), ("{\"series\":[{},{}]}", "\n"),
        (whole, "a=1,b=2 x:one y:two"),
        (whole.replacing(",", with: " ,\n\t").replacing(":", with: " : "), "a=1,b=2 x:one y:two"),
        (labels("{}"), "="),
        (labels("{\"name\":\"a\"}"), "a="),
        (sample(""), " :"),
        (sample("\"ID\":\"x\""), " x:"),
        (sample("\"rawProfile\":\"\""), " :"),
        (sample("\"rawProfile\":\"b25l\""), " :one"),
        (sample("\"raw_profile\":\"b25l\""), " :one"),
    ]

    static let nulls: [(String, String)] = [
        ("null", ""), ("{\"series\":null}", ""), ("{\"series\":[null]}", ""),
        ("{\"series\":[{\"labels\":null,\"samples\":null}]}", ""),
        (labels("{\"name\":null,\"value\":null}"), "="),
        (sample("\"rawProfile\":null,\"ID\":null"), " :"),
    ]

    static let unknown: [(String, String)] = [
        ("{\"x\":1}", ""),
        ("{\"x\":{\"series\":[{}]},\"series\":[{}],\"y\":[]}", ""),
        ("{\"x\":[1,-2.5e+10,0,true,false,null,\"s\",{\"a\":[]},[[]]]}", ""),
        ("{\"series\":[{\"annotations\":[{\"key\":\"k\",\"value\":\"v\"}],\"labels\":[]}]}", ""),
        (labels("{\"x\":\"\\u00e9\\\"\",\"name\":\"a\",\"y\":{},\"value\":\"1\"}"), "a=1"),
        (sample("\"x\":[{}],\"ID\":\"x\",\"id\":\"no\",\"RawProfile\":\"no\""), " x:"),
    ]

    static let strings: [(String, String)] = [
        (value(#"\"\\\/\b\f\n\r\t"#), "a=\"\\/\u{8}\u{c}\n\r\t"),
        (value(#"\u00e9\u00E9\u20ac"#), "a=\u{e9}\u{e9}\u{20ac}"),
        (value(#"\ud83d\udd25\uD83D\uDD25"#), "a=\u{1F525}\u{1F525}"),
        (value("\u{e9}\u{20ac}\u{1F525}\u{7f}"), "a=\u{e9}\u{20ac}\u{1F525}\u{7f}"),
        (labels(#"{"n\u0061me":"\u0061","value":"1"}"#), "a=1"),
        (value(#"\ud83d"#), "refused: half a character in a \\u escape"),
        (value(#"\udd25"#), "refused: half a character in a \\u escape"),
        (value(#"\ud83dx"#), "refused: half a character in a \\u escape"),
        (value(#"\ud83d\ud83d"#), "refused: half a character in a \\u escape"),
        (value(#"\ud83d\n"#), "refused: half a character in a \\u escape"),
        (value(#"\u12"#), "refused: a \\u escape without four digits"),
        (value(#"\u12g4"#), "refused: a \\u escape without four digits"),
        (value(#"\x41"#), "refused: an unknown escape in a string"),
        (value("\n"), "refused: a control character in a string"),
        (value("\u{1f}"), "refused: a control character in a string"),
        (value(#"\u0000"#), "refused: label \"a\" contains a NUL character"),
        (sample(#""ID":"x\u0000""#), "refused: a sample's ID contains a NUL character"),
        (labels(#"{"name":"a"},{"name":"a"}"#), "refused: duplicate label \"a\""),
        (labels(#"{"name":"a"},{"name":"\u0061"}"#), "refused: duplicate label \"a\""),
    ]

    static let base64: [(String, String)] = [
        (sample("\"rawProfile\":\"PDw/Pz8+Pg==\""), " :<<???>>"),
        (sample("\"rawProfile\":\"PDw/Pz8+Pg\""), " :<<???>>"),
        (sample("\"rawProfile\":\"PDw_Pz8-Pg==\""), " :<<???>>"),
        (sample("\"rawProfile\":\"PDw_Pz8-Pg\""), " :<<???>>"),
        (sample("\"rawProfile\":\"PDw/Pz8+Pg=\""), "refused: rawProfile is no base64"),
        (sample("\"rawProfile\":\"b25\""), " :on"),
        (sample("\"rawProfile\":\"b2*l\""), "refused: rawProfile is no base64"),
        (sample("\"rawProfile\":\"b25l\\n\""), "refused: rawProfile is no base64"),
        (sample("\"rawProfile\":\"b\""), "refused: rawProfile is no base64"),
        (sample("\"rawProfile\":\"\u{e9}\""), "refused: rawProfile is no base64"),
    ]

    static let malformed = [
        "", " ", "1", "[]", "\"\"", "true", "nul", "{", "}", "{\"series\"}", "{\"series\":}", "{\"series\":1}", "{\"series\":{}}",
        "{\"series\":[1]}", "{\"series\":[{}}", "{\"series\":[{},]}", "{,}", "{\"x\":1,}", "{\"x\" 1}", "{x:1}", "{'x':1}", "{\"x\":[1 2]}",
        "{\"x\":tru}", "{\"x\":+1}", "{\"x\":.5}", "{\"x\":NaN}", "{}{}", "{}x", "null null", "{} {}", "{\"x\":1}]", "{\"x\":\"}",
        "\u{feff}{}",
        "/**/{}", "{\"series\":[{\"labels\":[[]]}]}", "{\"series\":[{\"labels\":{}}]}", "{\"series\":[{\"labels\":[{\"name\":1}]}]}",
        "{\"series\":[{\"samples\":[{\"rawProfile\":1}]}]}", "{\"series\":[{\"samples\":[{\"rawProfile\":[]}]}]}",
        "{\"series\":[{\"samples\":[{\"rawProfile\":\"b25l}]}]}", "{\"series\":[{\"samples\":[{\"ID\":7}]}]}",
    ]

    @Test("A message is read with its labels sorted by name and its samples in order", arguments: accepted)
    func accepts(message: String, expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("A null counts as an absent value at every level", arguments: nulls)
    func takesNull(message: String, expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Unknown members are skipped at every level", arguments: unknown)
    func skips(message: String, expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Strings are read with all JSON escapes, and invalid strings are refused", arguments: strings)
    func readsStrings(message: String, expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Sample bytes are standard or URL-safe base64, padded or not", arguments: base64)
    func readsBase64(message: String, expected: String) { #expect(Self.outcome(message) == expected) }

    @Test("Characters of base64 may be escaped as in any JSON string")
    func escapedBase64() {
        #expect(Self.outcome(Self.sample(#""rawProfile":"PDw\/Pz8+Pg==""#)) == " :<<???>>", "as Foundation and PHP write a slash")
        #expect(Self.outcome(Self.sample(#""rawProfile":"PDw/Pz8\u002BPg==""#)) == " :<<???>>", "as .NET writes a plus")
    }

    @Test("A malformed message is refused", arguments: malformed)
    func refuses(message: String) { #expect(Self.outcome(message).hasPrefix("refused: ")) }

    @Test("A string that is not UTF-8 is refused", arguments: [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xE2, 0x82]] as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) {
        let parts = Self.value("|").split(separator: "|").map { Array($0.utf8) }
        #expect(Self.outcome(parts[0] + bytes + parts[1]) == "refused: a string is not valid UTF-8")
    }

    // MARK: Limits

    @Test("A skipped value may nest at most 32 levels deep", arguments: [(30, true), (31, true), (32, false), (100_000, false)])
    func depth(count: Int, isTaken: Bool) {
        for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
            let nested = String(repeating: open, count: count) + "0" + String(repeating: close, count: count)
            #expect(Self.outcome("{\"x\":\(nested)}") == (isTaken ? "" : "refused: nested deeper than 32"))
        }
    }

    @Test("A series has a limited number of labels", arguments: [-1, 0, 1])
    func manyLabels(excess: Int) {
        let labels = (0..<(DecodedPush.maximumLabels + excess)).map { "{\"name\":\"l\($0)\"}" }.joined(separator: ",")
        let refused = "refused: more than \(DecodedPush.maximumLabels) labels in a series"
        #expect((Self.outcome(Self.labels(labels)) == refused) == (excess > 0))
    }

    @Test("A request has a limited number of series", arguments: [-1, 0, 1])
    func manySeries(excess: Int) {
        let series = repeatElement("{}", count: DecodedPush.maximumSeries + excess).joined(separator: ",")
        let refused = "refused: more than \(DecodedPush.maximumSeries) series"
        #expect((Self.outcome("{\"series\":[\(series)]}") == refused) == (excess > 0))
    }

    @Test("A request has a limited number of samples, in one series or in several", arguments: [-1, 0, 1], [1, 2])
    func manySamples(excess: Int, seriesCount: Int) {
        let count = DecodedPush.maximumSamples + excess
        let parts = seriesCount == 1 ? [count] : [count / 2, count - count / 2]
        let series = parts.map { "{\"samples\":[\(repeatElement("{}", count: $0).joined(separator: ","))]}" }.joined(separator: ",")
        let refused = "refused: more than \(DecodedPush.maximumSamples) samples"
        #expect((Self.outcome("{\"series\":[\(series)]}") == refused) == (excess > 0))
    }

    // MARK: Garbage

    @Test("A truncated message is refused")
    func truncated() {
        let message = Array(Self.whole.utf8)
        for end in 0..<message.count { #expect(Self.outcome(Array(message[..<end])).hasPrefix("refused: "), "cut at \(end)") }
    }

    @Test("Random and mutated messages are read or refused, without a crash")
    func garbage() {
        var random = SeededRandom()
        let message =
            Array(#"{"x":[1,{"y":null}],"series":[{"labels":[{"name":"\u00e9","value":"\ud83d\udd25"}],"#.utf8)
            + Array(#""samples":[{"rawProfile":"b25l","ID":"x"}]}]}"#.utf8)
        for _ in 0..<20_000 {
            _ = Self.outcome(random.mutated(message))
            _ = Self.outcome(Array("{\"series\":[{".utf8) + random.bytes(upTo: 64, of: "{}[]:,\"\\u0nulx1"))
        }
    }
}
