import ProfileArchive
import Testing

@Suite("File names of an archive")
struct ArchivedNameTests {
    private static let stem = "20260131T235959.123456789Z-7"

    @Test(
        "A name consists of a stem, the number of the payload if there are several, and an ending",
        arguments: [
            (".json", nil, "json", true), (".pprof", nil, "pprof", false), ("-0.pprof", 0, "pprof", false),
            ("-65535.jfr", 65535, "jfr", false), (".speedscope.json", nil, "speedscope.json", false), ("-1.json", 1, "json", false),
            (".pprof.multipart", nil, "pprof.multipart", false),
        ] as [(String, Int?, String, Bool)])
    func names(rest: String, index: Int?, ending: String, isMetadata: Bool) throws {
        let name = try #require(ArchivedName(Self.stem + rest))
        #expect((name.stem, name.index, name.ending, name.isMetadata) == (Self.stem, index, ending, isMetadata))
    }

    @Test(
        "Any other name is refused",
        arguments: [
            "", stem, "\(stem).", "\(stem)-.pprof", "\(stem)-x.pprof", "\(stem)-99999999999999999999.pprof", "x\(stem).pprof",
            ".\(stem).pprof",
            "20260131T235959.123456789Z-.pprof", "20260131T235959.123456789Z.pprof", "2026013AT235959.123456789Z-7.pprof", "notes.json",
            "\(stem)-1-2.pprof",
        ])
    func others(name: String) { #expect(ArchivedName(name) == nil) }

    @Test(
        "A temporary name consists of an archived name and its writer",
        arguments: [
            (".\(stem).pprof.1-2-3.tmp", true), (".\(stem)-4.speedscope.json.1-2.tmp", true), ("\(stem).pprof.1-2-3.tmp", false),
            (".\(stem).pprof.1.tmp", false), (".\(stem).pprof.1-2-3-4.tmp", false), (".\(stem).pprof.0-1.tmp", false),
            (".\(stem).pprof.1-+2.tmp", false), (".\(stem).1-2.tmp", false), (".notes.1-2-3.tmp", false), (".tmp", false),
        ])
    func temporary(name: String, isOne: Bool) { #expect(TemporaryName.matches(name) == isOne) }
}
