import Testing

@testable import ProfileAPI
@testable import Profiles

@Suite("Labels of a Push request")
struct PushRequestTests {
    private func labels(_ pairs: [(String, String)]) throws -> [Label] {
        var request = DecodedPush()
        var series = DecodedPush.Series()
        for (name, value) in pairs { try series.add(label: name, value) }
        try request.add(series)
        return request.series[0].labels.labels
    }

    @Test("Labels are sorted by the bytes of their names")
    func order() throws {
        #expect(try labels([("b", "1"), ("é", "2"), ("a", "3"), ("Z", "4")]).map(\.name) == ["Z", "a", "b", "é"])
    }

    @Test("Names that look the same but differ in bytes are two names, and a repeated name is refused")
    func spellings() throws {
        #expect(try labels([("e\u{301}", "1"), ("\u{e9}", "2")]).count == 2)
        #expect(throws: DecodedPush.Malformed.self) { try labels([("a", "1"), ("b", "2"), ("a", "3")]) }
    }

    @Test("A name may have up to 4096 bytes", arguments: [(4095, true), (4096, true), (4097, false)])
    func nameLength(count: Int, isTaken: Bool) {
        let name = String(repeating: "n", count: count)
        let taken = try? labels([(name, "v")])
        #expect((taken != nil) == isTaken)
    }
}
