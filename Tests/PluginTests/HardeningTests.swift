import Testing

@testable import TestSupport

@Suite("Hardening of the program and its plugins")
struct HardeningTests {
    static let files = ["gateway", "libHTTPWriter.so", "libFileSink.so", "libStdoutSink.so"]

    private func readelf(_ option: String, _ file: String, _ build: Project.Build) throws -> [Substring] {
        let result = try ChildProcess.run(["readelf", "-W", option, try Project.built(file, build)])
        #expect(result.status == 0, "\(result.err)")
        return result.out.split(separator: "\n")
    }

    @Test("Relocations are read-only after loading (full RELRO)", arguments: files, Project.Build.allCases)
    func relro(file: String, build: Project.Build) throws {
        #expect(try readelf("--program-headers", file, build).contains { $0.contains("GNU_RELRO") })
        let dynamic = try readelf("--dynamic", file, build)
        #expect(dynamic.contains { $0.contains("(FLAGS_1)") && $0.contains("NOW") })
        #expect(!dynamic.contains { $0.contains("(TEXTREL)") })
    }

    @Test(
        "Code is position-independent (PIE), and neither stack nor writable data is executable", arguments: files, Project.Build.allCases
    )
    func layout(file: String, build: Project.Build) throws {
        #expect(try readelf("--file-header", file, build).contains { $0.contains("Type:") && $0.contains("DYN") })
        if file == "gateway" { #expect(try readelf("--dynamic", file, build).contains { $0.contains("(FLAGS_1)") && $0.contains("PIE") }) }
        let segments = try readelf("--program-headers", file, build).map { $0.split(separator: " ") }
        let stack = try #require(segments.first { $0.first == "GNU_STACK" })
        #expect(stack.dropLast().last == "RW")
        // The flags precede the alignment, and each letter may stand alone.
        #expect(!segments.contains { $0.first == "LOAD" && $0.contains { $0.hasPrefix("RWE") || $0 == "WE" } })
    }

    @Test("Nothing links the library behind async, which takes memory that only some plugins need", arguments: files)
    func concurrency(file: String) throws {
        let needed = try readelf("--dynamic", file, .release).filter { $0.contains("(NEEDED)") }
        #expect(!needed.contains { $0.contains("libswift_Concurrency") })
        #expect(needed.contains { $0.contains("libswiftCore") })
    }

    @Test("The stack is protected", arguments: files, Project.Build.allCases)
    func stackProtector(file: String, build: Project.Build) throws {
        #expect(try readelf("--dyn-syms", file, build).contains { $0.contains("__stack_chk_fail") })
    }
}
