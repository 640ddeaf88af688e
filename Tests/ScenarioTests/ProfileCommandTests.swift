import Foundation
import Testing

@testable import TestSupport

@Suite("gateway profile")
struct ProfileCommandTests {
    private func profile(_ scenario: Scenario, _ words: String...) throws -> (status: Int32, output: [String], errors: [String]) {
        let process = try scenario.start([try Project.builtGateway(), "profile"] + words)
        return (try process.waitForExit(), process.output.lines, process.errors.lines)
    }

    private static func fixture(_ name: String) -> String { "\(Project.root)/Tests/Fixtures/\(name)" }

    private struct Page: Decodable {
        struct Function: Decodable {
            let name: String
            let own: Int
            let total: Int
        }

        let total: Int
        let functions: [Function]
    }

    @Test(
        "The stacks of each real profile count as much as its functions",
        arguments: ["go-cpu.pprof", "go-heap.pprof", "python.folded", "python.lines", "python.speedscope.json"])
    func fixtures(name: String) throws {
        try Scenario.run { scenario in
            let top = try profile(scenario, "top", Self.fixture(name), "--limit", "0", "--json")
            let page = try JSONDecoder().decode(Page.self, from: Data(top.output.joined().utf8))
            let counts = try profile(scenario, "folded", Self.fixture(name)).output.map { Int($0.split(separator: " ").last ?? "") ?? 0 }
            #expect(page.total > 0 && counts.reduce(0, +) == page.total)
            #expect(page.functions.map(\.own).reduce(0, +) == page.total)
            let graph = try profile(scenario, "graph", Self.fixture(name))
            #expect(graph.status == 0 && graph.output.first?.contains("\"total\":\(page.total),") == true)
        }
    }

    @Test("The sample type and the number of functions can be chosen")
    func choices() throws {
        try Scenario.run { scenario in
            let file = Self.fixture("go-heap.pprof")
            let top = try profile(scenario, "top", file, "--sample-type", "alloc_space", "--limit", "1")
            #expect(top.status == 0 && top.output.count == 3 && top.output.first?.hasPrefix("alloc_space, ") == true)
            let heading = top.output.dropFirst().first?.split(separator: " ").map(String.init)
            #expect(heading == ["OWN", "%", "TOTAL", "%", "FUNCTION"])
            let wrong = try profile(scenario, "top", file, "--sample-type", "cpu")
            #expect(wrong.status == 1 && wrong.output.isEmpty)
            #expect(
                wrong.errors == [
                    "gateway: \(file): there is no sample type \"cpu\": alloc_objects, alloc_space, inuse_objects, inuse_space"
                ])
        }
    }

    @Test("A file that cannot be read exits with 1 and says why")
    func unreadable() throws {
        try Scenario.run { scenario in
            let jfr = try profile(scenario, "folded", Self.fixture("java.jfr"))
            #expect(jfr.status == 1 && jfr.errors.first?.hasSuffix("jfr cannot be read: only pprof, folded, lines, speedscope") == true)
            let file = try scenario.write("a;b x\n", to: "odd.folded")
            #expect(
                try profile(scenario, "graph", file).errors == [
                    "gateway: \(file): the count on line 1 is x, which is not a whole number of 64 bits"
                ])
            #expect(try profile(scenario, "top", file, "--format", "lines").status == 0)
            #expect(try profile(scenario, "top", scenario.path("gone")).status == 1)
        }
    }

    @Test(
        "Wrong usage exits with 2 and is explained",
        arguments: [
            [], ["lost"], ["top"], ["top", "a", "b"], ["top", "a", "--limit", "-1"], ["folded", "a", "--json"],
            ["graph", "a", "--format", "jfr"],
        ])
    func usage(words: [String]) throws {
        try Scenario.run { scenario in
            let process = try scenario.start([try Project.builtGateway(), "profile"] + words)
            #expect(try process.waitForExit() == 2)
            #expect(process.errors.lines.first?.hasPrefix("gateway: ") == true && process.output.lines.isEmpty)
        }
    }
}
