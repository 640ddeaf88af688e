import ConfigJSON
import Testing

@testable import Telemetry
@testable import TestSupport

@Suite("Reading JSON")
struct JSONParserTests {
    /// The problems, such as `1:3: a.b: what is wrong`, and then the value as strict JSON.
    private static func read(_ bytes: [UInt8], _ dialect: JSONParser.Dialect) -> [String] {
        let problems = Problems()
        let value = JSONParser.parse(bytes, dialect: dialect, problems: problems)
        let lines = problems.list.map { "\($0.position?.line ?? 0):\($0.position?.column ?? 0): \($0)" }
        return lines + (value.map { [$0.text] } ?? [])
    }

    private static func read(_ text: String, _ dialect: JSONParser.Dialect = .strict) -> String {
        read(Array(text.utf8), dialect).joined(separator: "\n")
    }

    @Test(
        "Strict JSON is read in both dialects",
        arguments: [
            ("null", "null"), (" true\n", "true"), ("\tfalse\r\n", "false"), ("[]", "[]"), ("{}", "{}"), (#""""#, #""""#),
            (#"{"b":1,"a":[2,{}]}"#, #"{"b":1,"a":[2,{}]}"#), ("\u{feff}[ 1 , 2 ]", "[1,2]"),
            ("0", "0"), ("-0", "-0"), ("10", "10"), ("-1.50", "-1.50"), ("1e5", "1e5"), ("1E+05", "1E+05"), ("0.1e-9", "0.1e-9"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
            (#""\"\\\/\b\f\n\r\t""#, #""\"\\/\u0008\u000c\n\r\t""#), (#""\u0041\u00FC\u00fc""#, #""Aüü""#), (#""\u0000""#, #""\u0000""#),
            (#""\ud83d\ude00""#, #""😀""#), (#""\uD800\uDC00\udbff\udfff""#, "\"\u{10000}\u{10ffff}\""), (#""ü😀 //""#, #""ü😀 //""#),
            (#"{"":{"":1}}"#, #"{"":{"":1}}"#),
        ])
    func strict(text: String, expected: String) {
        #expect(Self.read(text, .strict) == expected)
        #expect(Self.read(text, .relaxed) == expected)
    }

    @Test(
        "Comments and trailing commas are accepted only in the relaxed dialect",
        arguments: [
            ("// a\n1", "1", #"1:1: expected a value, found "/""#),
            ("1 // a", "1", "1:3: unexpected text after the end"),
            ("/* a\n * / ** */ 1", "1", #"1:1: expected a value, found "/""#),
            ("/**/1/***/", "1", #"1:1: expected a value, found "/""#),
            ("[1,/*2*/\n3]", "[1,3]", #"1:4: expected a value, found "/""#),
            ("[1,]", "[1]", #"1:4: expected a value, found "]""#),
            ("{\"a\":1,\n}", #"{"a":1}"#, #"2:1: expected a member name in quotes, found "}""#),
            ("[1, // a\n]", "[1]", #"1:5: expected a value, found "/""#),
        ])
    func relaxed(text: String, value: String, refusal: String) {
        #expect(Self.read(text, .relaxed) == value)
        #expect(Self.read(text, .strict) == refusal)
    }

    @Test(
        "A syntax error names its position and what was expected",
        arguments: [
            ("", "1:1: expected a value, found the end of the text"),
            (" \n ", "2:2: expected a value, found the end of the text"),
            ("[", "1:2: expected a value, found the end of the text"),
            ("[,]", #"1:2: expected a value, found ",""#),
            ("[1,,]", #"1:4: expected a value, found ",""#),
            ("[1 2]", #"1:4: expected "," or "]", found "2""#),
            ("[1", #"1:3: expected "," or "]", found the end of the text"#),
            ("{\n  \"a\" 1}", #"2:7: expected ":", found "1""#),
            ("{\"a\":1 \"b\":2}", #"1:8: expected "," or "}", found "\"""#),
            ("{a:1}", #"1:2: expected a member name in quotes, found "a""#),
            ("{,}", #"1:2: expected a member name in quotes, found ",""#),
            ("1 2", "1:3: unexpected text after the end"),
            ("nulll", "1:5: unexpected text after the end"),
            ("nul", #"1:1: expected a value, found "n""#),
            ("True", #"1:1: expected a value, found "T""#),
            ("'a'", #"1:1: expected a value, found "'""#),
            ("01", "1:2: unexpected text after the end"),
            ("+1", #"1:1: expected a value, found "+""#),
            (".5", #"1:1: expected a value, found ".""#),
            ("-", "1:2: expected a digit, found the end of the text"),
            ("-a", #"1:2: expected a digit, found "a""#),
            ("1.", "1:3: expected a digit, found the end of the text"),
            ("1.e5", #"1:3: expected a digit, found "e""#),
            ("1e+", "1:4: expected a digit, found the end of the text"),
            ("٣", #"1:1: expected a value, found "٣""#),
            ("NaN", #"1:1: expected a value, found "N""#),
            (#""ab"#, "1:4: a string that does not end"),
            ("\"a\nb\"", #"1:3: expected the end of the string, found "\n""#),
            ("\"a\tb\"", #"1:3: expected the end of the string, found "\t""#),
            ("\"\u{0}\"", #"1:2: expected the end of the string, found "\u0000""#),
            (#""\x""#, #"1:3: expected an escape, found "x""#),
            (#""\"#, "1:3: expected an escape, found the end of the text"),
            (#""\U0041""#, #"1:3: expected an escape, found "U""#),
            (#""\u004""#, #"1:7: expected a hexadecimal digit, found "\"""#),
            (#""\u00g0""#, #"1:6: expected a hexadecimal digit, found "g""#),
            (#""\u００41""#, #"1:4: expected a hexadecimal digit, found "０""#),
            (#""\ud800""#, #"1:8: a \u escape with half a character"#),
            (#""\ud800x""#, #"1:8: a \u escape with half a character"#),
            (#""\ud800\n""#, #"1:9: a \u escape with half a character"#),
            (#""\ud800\u0041""#, #"1:14: a \u escape with half a character"#),
            (#""\ud800\ud800""#, #"1:14: a \u escape with half a character"#),
            (#""\udc00""#, #"1:8: a \u escape with half a character"#),
            ("[1]\n/* a", #"2:1: unexpected text after the end"#),
        ])
    func syntaxError(text: String, problem: String) {
        #expect(Self.read(text) == problem)
    }

    @Test(
        "A broken comment is an error of the relaxed dialect",
        arguments: [
            ("[\n  /* a", "2:3: a comment that does not end"), ("/*/", "1:1: a comment that does not end"),
            ("/", "1:2: expected a comment, found the end of the text"), ("/ 1", #"1:2: expected a comment, found " ""#),
        ])
    func brokenComment(text: String, problem: String) {
        #expect(Self.read(text, .relaxed) == problem)
    }

    @Test("The first of several members with one name is kept, and each further one is a problem")
    func duplicates() {
        #expect(
            Self.read("{\"a\":1,\n \"b\":{\"c\":2,\"c\":3},\n \"a\":4, \"\\u0061\":5}") == """
                2:13: b.c: appears twice in one object
                3:2: a: appears twice in one object
                3:9: a: appears twice in one object
                {"a":1,"b":{"c":2}}
                """)
        #expect(Self.read(#"[{"a.b":1},{"x":{"a.b":1,"a.b":2}}]"#).hasPrefix(#"1:26: [1].x["a.b"]: appears twice"#))
    }

    @Test("Nesting is limited to 64 levels", arguments: [(63, true), (64, true), (65, false), (100_000, false)])
    func depth(count: Int, isRead: Bool) {
        let text = String(repeating: "[", count: count) + String(repeating: "]", count: min(count, 1000))
        #expect(Self.read(text) == (isRead ? text : "1:65: nested deeper than 64"))
        let mixed = String(repeating: #"{"a":"#, count: count) + "1" + String(repeating: "}", count: min(count, 1000))
        #expect(Self.read(mixed) == (isRead ? mixed : "1:321: nested deeper than 64"))
    }

    @Test("Depth is counted per branch")
    func wide() {
        let text = "[" + Array(repeating: "[]", count: 200).joined(separator: ",") + "]"
        #expect(Self.read(text) == text)
    }

    @Test(
        "Bytes that are not UTF-8 are an error at their position",
        arguments: [
            ("\"", [0xFF], "1:2"), ("{\n \"ü\": \"", [0xC3, 0x28], "2:8"), ("", [0x80], "1:1"), ("[\n\n", [0xED, 0xA0, 0x80], "3:1"),
            ("\"a\n", [0xC0, 0x80], "2:1"), ("\"€", [0xE2, 0x82], "1:3"),
        ] as [(String, [UInt8], String)])
    func invalidText(before: String, bytes: [UInt8], place: String) {
        #expect(Self.read(Array(before.utf8) + bytes, .relaxed) == ["\(place): the text is not valid UTF-8"])
    }

    @Test("A replacement character in the text is not mistaken for invalid UTF-8")
    func invalidAfterReplacement() {
        #expect(Self.read(Array("\"\u{fffd}\n".utf8) + [0xFF], .relaxed) == ["2:1: the text is not valid UTF-8"])
    }

    @Test("Values and members have their line and column, counted in characters")
    func positions() throws {
        let problems = Problems()
        let text = "{ // ü\n  \"ü😀\": [1,\r\n\t\"b\"] }"
        let value = try #require(JSONParser.parse(Array(text.utf8), dialect: .relaxed, problems: problems))
        guard case .object(let members) = value.content, case .array(let elements) = try #require(members.first).value.content else {
            Issue.record("not an object with an array")
            return
        }
        let places = [value.position, members[0].position, members[0].value.position] + elements.map(\.position)
        #expect(places.map { "\($0.line):\($0.column)" } == ["1:1", "2:3", "2:9", "2:10", "3:2"])
    }

    @Test("Random and mutated text gives a value or a problem, and no crash")
    func garbage() {
        var random = SeededRandom()
        let seed = Array(#"{"a":[1,-2.5e3,"x\u00fc\ud83d\ude00\n"],/* c */"b":{"c":null,"d":true,},} // e"#.utf8)
        for round in 0..<4000 {
            let bytes = round % 4 == 0 ? random.bytes(upTo: 40, of: #"{}[],:"\/*u01-e. n"#) : random.mutated(seed)
            #expect(!Self.read(bytes, round % 2 == 0 ? .strict : .relaxed).isEmpty, "\(bytes)")
        }
    }
}
