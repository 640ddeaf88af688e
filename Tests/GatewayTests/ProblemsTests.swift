import ConfigJSON
import Testing

@Suite("Problems of a config")
struct ProblemsTests {
    @Test(
        "Paths are joined with dots, and unusual names are in brackets",
        arguments: [
            ("", "a", "a"), ("a", "b_c-9", "a.b_c-9"), ("a", "b.c", #"a["b.c"]"#), ("a", "", #"a[""]"#), ("", "b c", #"["b c"]"#),
            ("a", "ü", #"a["ü"]"#), ("a", "x\n", #"a["x\n"]"#), ("a", "[", #"a["["]"#), ("a", "@`{", #"a["@`{"]"#),
        ])
    func path(path: String, name: String, expected: String) {
        #expect(Problems.path(path, name) == expected)
    }

    @Test("A problem of the whole text is described without a path")
    func description() {
        #expect(Problem(position: nil, path: "", message: "m").description == "m")
        #expect(Problem(position: nil, path: "a.b", message: "m").description == "a.b: m")
    }

    @Test(
        "A near miss is the closest name within a third of the letters",
        arguments: [
            ("plugn", "plugin"), ("pulgin", "plugin"), ("Plugin", "plugin"), ("pluginn", "plugin"),
            ("max_backof_retries", "max_backoff_retries"),
            ("quue", "queue"), ("x", nil), ("plg", nil), ("something_else", nil), ("", nil), ("retryqueue", nil),
        ] as [(String, String?)])
    func nearMisses(name: String, expected: String?) {
        #expect(nearMiss(name, among: ["plugin", "queue", "retry", "max_backoff_retries"]) == expected)
    }

    @Test("The alphabetically first of equally near names is suggested")
    func tie() {
        #expect(nearMiss("abx", among: ["abz", "aby"]) == "aby")
        #expect(nearMiss("a", among: ["b"]) == "b")
        #expect(nearMiss("a", among: []) == nil)
    }
}
