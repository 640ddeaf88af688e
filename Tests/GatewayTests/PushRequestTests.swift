import Testing

@testable import Gateway

@Suite("Labels of a Push")
struct PushRequestTests {
    private func labels(_ pairs: [(String, String)]) throws -> [Label] {
        var request = PushMessage()
        var series = PushMessage.Series()
        for (name, value) in pairs { try series.add(label: name, value) }
        try request.add(series)
        return request.series[0].labels.labels
    }

    @Test("They are sorted by their bytes, whatever order they came in")
    func order() throws {
        #expect(try labels([("b", "1"), ("é", "2"), ("a", "3"), ("Z", "4")]).map(\.name) == ["Z", "a", "b", "é"])
    }

    @Test("Two spellings that look the same are two names, and the same bytes twice are refused")
    func spellings() throws {
        #expect(try labels([("e\u{301}", "1"), ("\u{e9}", "2")]).count == 2)
        #expect(throws: PushMessage.Malformed.self) { try labels([("a", "1"), ("b", "2"), ("a", "3")]) }
    }

    @Test("A name of 4096 bytes is taken, a longer one is not", arguments: [(4095, true), (4096, true), (4097, false)])
    func nameLength(count: Int, isTaken: Bool) {
        let name = String(repeating: "n", count: count)
        let taken = try? labels([(name, "v")])
        #expect((taken != nil) == isTaken)
    }
}
