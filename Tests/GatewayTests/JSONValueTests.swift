import ConfigJSON
import Testing

@testable import Telemetry
@testable import TestSupport

@Suite("JSON values")
struct JSONValueTests {
    private static func parse(_ text: String) throws -> JSONValue {
        try #require(JSONParser.parse(Array(text.utf8), dialect: .strict, problems: Problems()))
    }

    @Test(
        "The text of a value is read as the same value",
        arguments: [
            #"{"b":[null,true,false,-1.50e+3],"a":{"":"ü😀"}}"#, #"["\"\\\n\r\t\u0000\u001f\u007f\u0085\u2028\u2029"]"#,
            #"["/","\u0008\u000c"]"#,
        ])
    func roundTrip(text: String) throws {
        #expect(try Self.parse(text).text == text)
    }

    @Test("The quoted form of any text is one line of printable characters, and is read as the same text")
    func quoted() throws {
        var random = SeededRandom()
        for _ in 0..<500 {
            let text = String(
                String.UnicodeScalarView((0..<10).compactMap { _ in Unicode.Scalar(random.below(random.below(2) == 0 ? 0x110000 : 0x100)) })
            )
            let quoted = JSONValue.quoted(text)
            guard case .string(let read) = try Self.parse(quoted).content else {
                Issue.record("\(quoted) is no string")
                continue
            }
            #expect(Array(read.unicodeScalars) == Array(text.unicodeScalars))
            #expect(quoted.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) })
        }
    }

    @Test(
        "A path leads to the value that it names, or to the deepest existing value on the way",
        arguments: [
            ("", "{"), ("a", "["), ("a[0]", "{"), ("a[0].u", "x"), ("a[1].u", "y"), ("b.c.d", "z"), (".b.c.d", "z"),
            ("a[2].u", "["), ("a[-1]", "["), ("a[x]", "["), ("a.u", "["), ("b.none.d", "{c"), ("b.c.d.e", "z"), ("none", "{"),
            ("a[0", "{u"), ("[0]", "{"),
        ])
    func nearest(path: String, expected: String) throws {
        let value = try Self.parse(#"{"a":[{"u":"x"},{"u":"y"}],"b":{"c":{"d":"z"}}}"#)
        let found = value.nearest(to: path[...]).text.filter { $0 != "\"" }
        #expect(found.hasPrefix(expected))
    }

    @Test(
        "Each kind of value has a readable name",
        arguments: [
            ("null", "null"), ("true", "a boolean"), ("1", "a number"), (#""""#, "a string"), ("[]", "an array"), ("{}", "an object"),
        ])
    func kind(text: String, expected: String) throws {
        #expect(try Self.parse(text).kind == expected)
    }
}
