import Testing

@testable import TestSupport

@Suite("How the program and its plugins are built")
struct HardeningTests {
    static let files = ["gateway", "libHTTPWriter.so", "libFileSink.so", "libStdoutSink.so"]

    private func readelf(_ option: String, _ file: String, _ build: Project.Build) throws -> [Substring] {
        let result = try ChildProcess.run(["readelf", "-W", option, try Project.built(file, build)])
        #expect(result.status == 0, "\(result.err)")
        return result.out.split(separator: "\n")
    }

    @Test("Tables of pointers are read-only once it is loaded (full RELRO)", arguments: files, Project.Build.allCases)
    func relro(file: String, build: Project.Build) throws {
        #expect(try readelf("--program-headers", file, build).contains { $0.contains("GNU_RELRO") })
        let dynamic = try readelf("--dynamic", file, build)
        #expect(dynamic.contains { $0.contains("(FLAGS_1)") && $0.contains("NOW") })
        #expect(!dynamic.contains { $0.contains("(TEXTREL)") })
    }

    @Test(
        "It runs at any address (PIE), and neither its stack nor a writable segment is executable", arguments: files, Project.Build.allCases
    )
    func layout(file: String, build: Project.Build) throws {
        #expect(try readelf("--file-header", file, build).contains { $0.contains("Type:") && $0.contains("DYN") })
        if file == "gateway" { #expect(try readelf("--dynamic", file, build).contains { $0.contains("(FLAGS_1)") && $0.contains("PIE") }) }
        let segments = try readelf("--program-headers", file, build).map { $0.split(separator: " ") }
        let stack = try #require(segments.first { $0.first == "GNU_STACK" })
        #expect(stack.dropLast().last == "RW")
        // Flags stand before the alignment, each letter by itself.
        #expect(!segments.contains { $0.first == "LOAD" && $0.contains { $0.hasPrefix("RWE") || $0 == "WE" } })
    }

    @Test("Its stack is protected", arguments: files, Project.Build.allCases)
    func stackProtector(file: String, build: Project.Build) throws {
        #expect(try readelf("--dyn-syms", file, build).contains { $0.contains("__stack_chk_fail") })
    }
}
