import Foundation
import Testing

@Suite("What the README and the examples show works")
struct ReadmeTests {
    /// The first code block of a language in the README.
    private func block(_ language: String) throws -> String {
        let text = try String(contentsOfFile: "\(Package.root)/README.md", encoding: .utf8)
        let start = try #require(text.range(of: "```\(language)\n")).upperBound
        let end = try #require(text.range(of: "```", range: start..<text.endIndex)).lowerBound
        return String(text[start..<end])
    }

    private func check(_ scenario: Scenario, _ config: String) throws {
        // Its folders are relative, and a test writes nowhere but into its own.
        let file = try scenario.write(config.replacingOccurrences(of: "\"./", with: "\"\(scenario.path(""))"), to: "gateway.json")
        let process = try scenario.start([try Package.builtGateway(), "check", "--config", file])
        #expect(try process.waitForExit() == 0)
        #expect(process.output.lines == ["\(file): ok"])
    }

    @Test("The README's config is one that check finds nothing wrong with")
    func readmeConfig() throws {
        try Scenario.run { try check($0, try block("jsonc")) }
    }

    @Test("So is every example")
    func examples() throws {
        let folder = "\(Package.root)/examples"
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            try Scenario.run { try check($0, try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)) }
        }
    }
}
