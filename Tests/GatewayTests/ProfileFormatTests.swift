import Testing

@testable import Profiles

@Suite("The format of a profile")
struct ProfileFormatTests {
    @Test(
        "The query's format and the Content-Type decide as in Pyroscope, in the same order",
        arguments: [
            ("trie", "", ProfileFormat.trie),
            (nil, "binary/octet-stream+trie", .trie),
            ("tree", "", .tree),
            (nil, "binary/octet-stream+tree", .tree),
            ("lines", "", .lines),
            ("jfr", "", .jfr),
            ("jfr", "multipart/form-data; boundary=x", .jfr),
            ("pprof", "", .pprof),
            ("pprof", "multipart/form-data; boundary=x", .pprof),
            ("speedscope", "application/json", .speedscope),
            (nil, "multipart/form-data; boundary=x", .pprof),
            ("folded", "multipart/form-data; boundary=x", .pprof),
            ("folded", "", .folded),
            ("collapsed", "", .folded),
            ("groups", "text/plain", .folded),
            ("", "", .folded),
            (nil, "", .folded),
            (nil, "binary/octet-stream", .folded),
            ("PPROF", "", .folded),
            ("tree", "binary/octet-stream+trie", .trie),
            ("pprof", "binary/octet-stream+tree", .tree),
        ] as [(String?, String, ProfileFormat)])
    func decision(format: String?, contentType: String, expected: ProfileFormat) {
        #expect(ProfileFormat(format: format, contentType: contentType) == expected)
    }
}
