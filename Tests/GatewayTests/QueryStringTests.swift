import Testing

@testable import HTTPServer
@testable import TestSupport

@Suite("Query strings")
struct QueryStringTests {
    @Test(
        "The first parameter of a name is returned decoded",
        arguments: [
            ("name=a", "a"), ("x=1&name=a&name=b", "a"), ("name=", ""), ("name", ""), ("name&name=b", ""), ("&&name=a&", "a"),
            ("name=a+b", "a b"), ("name=%41%2b%2B", "A++"), ("name=a=b", "a=b"), ("name=%C3%BC", "ü"), ("name=%26%3D", "&="),
            ("names=1&name=a", "a"),
        ])
    func present(query: String, expected: String) throws {
        #expect(Self.query(query).text("name") == expected)
        #expect(try Self.query(query).value("name") == Array(expected.utf8)[...])
    }

    @Test("A parameter is found wherever it stands", arguments: 0...20)
    func place(before: Int) throws {
        let query = Self.query((0..<before).map { "p\($0)=\($0)&" }.joined() + "name=a&last=b")
        #expect(try query.value("name") == [UInt8(ascii: "a")])
        #expect(query.text("last") == "b")
        #expect(query.text("p\(before - 1)") == (before == 0 ? nil : "\(before - 1)"))
    }

    @Test("An absent parameter is nil", arguments: ["", "&", "=", "=name", "nam=1", "Name=1", "n%61me=1", "x=name"])
    func absent(query: String) throws {
        #expect(try Self.query(query).value("name") == nil)
        #expect(Self.query(query).text("name") == nil)
    }

    @Test(
        "A malformed escape is an error that shows the escape",
        arguments: [
            ("a%", "%"), ("a%4", "%4"), ("%zz", "%zz"), ("%4g", "%4g"), ("%+1", "%+1"), ("%-1", "%-1"), ("% 1", "% 1"), ("%%41", "%%4"),
        ])
    func malformed(value: String, shown: String) {
        #expect(throws: QueryString.Malformed(text: shown)) { try Self.query("name=\(value)").value("name") }
        #expect(Self.query("name=\(value)").text("name") == nil)
    }

    @Test("A malformed escape in another parameter does not matter")
    func malformedElsewhere() {
        #expect(Self.query("x=%&name=a").text("name") == "a")
    }

    @Test("Bytes that are not UTF-8 have a value but no text")
    func invalidText() throws {
        #expect(try Self.query("name=%ff%00").value("name") == [0xFF, 0])
        #expect(Self.query("name=%ff").text("name") == nil)
    }

    @Test("A slice is read within its bounds")
    func slice() {
        let bytes = Array("name=before name=a name=after".utf8)
        #expect(QueryString(bytes[12..<18]).text("name") == "a")
    }

    @Test("Random bytes give a value, nil or an error, and no crash")
    func garbage() {
        var random = SeededRandom()
        for _ in 0..<3000 {
            let query = QueryString(random.bytes(upTo: 24, of: "a=&%+4f")[...])
            if let value = try? query.value("a") { #expect(value.count <= query.raw("a")?.count ?? 0) }
        }
    }

    private static func query(_ text: String) -> QueryString { QueryString(Array(text.utf8)[...]) }
}
