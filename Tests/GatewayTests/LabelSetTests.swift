import Testing

@testable import Gateway

@Suite("Label sets, as name= of /ingest carries them")
struct LabelSetTests {
    @Test("An application alone is a set of one label")
    func applicationAlone() throws {
        #expect(try LabelSet(parsing: "foo").labels == [Label(name: "__name__", value: "foo")])
    }
}
