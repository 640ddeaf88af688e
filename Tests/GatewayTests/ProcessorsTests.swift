import Testing

@testable import LinuxSystem

@Suite("Usable processors")
struct ProcessorsTests {
    @Test(
        "The least bandwidth of a control group and those above it counts, rounded up",
        arguments: [
            ("0::/a/b\n", ["/a/b": "max 100000\n", "/a": "150000 100000\n"], 2),
            ("0::/a/b\n", ["/a/b": "100000 100000\n", "": "300000 100000\n"], 1),
            ("0::/\n", ["": "50000 100000\n"], 1), ("0::/\n", [:], Int.max), ("4:cpu:/a\n0::/a\n", ["/a": "400000 100000\n"], 4),
            ("4:cpu:/a\n", ["/a": "100000 100000\n"], Int.max), ("0::/a\n", ["/a": "0 0\n", "": "x y\n"], Int.max), ("", [:], Int.max),
            ("0::/a\n", ["/a": "9223372036854775807 1\n"], Int.max),
        ])
    func quota(groups: String, files: [String: String], expected: Int) {
        #expect(Processors.quota(of: groups) { files[$0] ?? "" } == expected)
    }

    @Test("There is at least one")
    func usable() { #expect(Processors.usable >= 1) }
}
