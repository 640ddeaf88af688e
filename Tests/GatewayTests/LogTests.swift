import Testing

@testable import Telemetry

@Suite("Quoted text and log levels")
struct LogTests {
    @Test(
        "Quoting escapes control characters and line separators",
        arguments: [
            ("plain", #""plain""#), ("", #""""#), ("a\nb\r\t", #""a\nb\r\t""#), ("\u{1b}[31m", #""\u001b[31m""#), (#"\""#, #""\\\"""#),
            ("\u{7f}\u{9b}\u{85}", #""\u007f\u009b\u0085""#), ("\u{2028}", #""\u2028""#), ("\0", #""\u0000""#), ("ü→", #""ü→""#),
        ])
    func quoted(text: String, expected: String) {
        #expect(quotedForPeople(text) == expected)
    }

    @Test("Quoted text is cut above 128 characters", arguments: [(127, false), (128, false), (129, true), (5000, true)])
    func cut(count: Int, isCut: Bool) {
        let shown = String(repeating: "x", count: min(count, 128)) + (isCut ? "…" : "")
        #expect(quotedForPeople(String(repeating: "x", count: count)) == "\"\(shown)\"")
    }

    @Test("Quoted text is also cut if few characters have many bytes")
    func combined() {
        #expect(quotedForPeople("a" + String(repeating: "\u{301}", count: 5000)).utf8.count < 2000)
    }

    @Test("Levels are ordered from debug to error")
    func levels() {
        #expect(Log.Level.allCases.sorted() == [.debug, .info, .warning, .error])
    }
}
