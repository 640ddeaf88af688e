import Foundation
import Testing

@testable import TestSupport

@Suite("What the documents and the examples show works")
struct ReadmeTests {
    /// The code blocks of a language in a document.
    private func blocks(_ language: String, in document: String) throws -> [String] {
        let text = try String(contentsOfFile: "\(Project.root)/\(document)", encoding: .utf8)
        return text.components(separatedBy: "```\(language)\n").dropFirst().compactMap { $0.components(separatedBy: "```").first }
    }

    private func check(_ scenario: Scenario, _ config: String) throws {
        let certificates = try Certificates(scenario)
        try FileManager.default.createDirectory(atPath: scenario.path("tls"), withIntermediateDirectories: true)
        for name in ["server.pem", "server.key"] {
            try FileManager.default.copyItem(atPath: certificates.path(name), toPath: scenario.path("tls/\(name)"))
        }
        try scenario.write("token\n", to: "tokens")
        try scenario.write(try AccessTests.user(scenario, "alice", "secret"), to: "users")
        for name in ["tokens", "users"] { chmod(scenario.path(name), 0o600) }
        try FileManager.default.copyItem(atPath: certificates.authority, toPath: scenario.path("clients.pem"))
        try certificates.makeList("revoked", revoking: [])
        // Its folders are relative, and a test writes nowhere but into its own.
        let file = try scenario.write(config.replacingOccurrences(of: "\"./", with: "\"\(scenario.path(""))"), to: "gateway.json")
        let process = try scenario.start([try Project.builtGateway(), "check", "--config", file])
        #expect(try process.waitForExit() == 0)
        // Whether the disk here is large enough for its queues is no matter of the documents'.
        #expect(process.output.lines.filter { !$0.contains("warning: data_dir: ") } == ["\(file): ok"])
    }

    @Test("The README's config is one that check finds nothing wrong with")
    func readmeConfig() throws {
        let blocks = try blocks("jsonc", in: "README.md")
        #expect(blocks.count == 1)
        for block in blocks { try Scenario.run { try check($0, block) } }
    }

    @Test("So are the whole config that docs/configuration.md begins with, and the members that docs/security.md adds")
    func documentedConfig() throws {
        let whole = try #require(try blocks("jsonc", in: "docs/configuration.md").first)
        try Scenario.run { try check($0, whole) }
        let members = try #require(try blocks("jsonc", in: "docs/security.md").first)
        let receivers = "\"receivers\": { \"archive\": { \(ReceiverEntry.archive()) } }"
        try Scenario.run { try check($0, "{ \(members) \(receivers) }") }
    }

    @Test("So is every example")
    func examples() throws {
        let folder = "\(Project.root)/examples"
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            try Scenario.run { try check($0, try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)) }
        }
    }
}
