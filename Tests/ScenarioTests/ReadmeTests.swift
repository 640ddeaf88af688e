import Foundation
import Testing

@testable import TestSupport

@Suite("Configs of the documents and examples")
struct ReadmeTests {
    /// The code blocks of a language in a document.
    private func blocks(_ language: String, in document: String) throws -> [String] {
        let text = try String(contentsOfFile: "\(Project.root)/\(document)", encoding: .utf8)
        return text.components(separatedBy: "```\(language)\n").dropFirst().compactMap { $0.components(separatedBy: "```").first }
    }

    /// Checks a config with the command, next to the files that the documents name.
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
        // The folders of the config are relative, and a test writes only into its own folder.
        let file = try scenario.write(config.replacingOccurrences(of: "\"./", with: "\"\(scenario.path(""))"), to: "gateway.json")
        let process = try scenario.start([try Project.builtGateway(), "check", "--config", file])
        #expect(try process.waitForExit() == 0)
        // A warning that the disk is too small for the queues depends on this machine.
        #expect(process.output.lines.filter { !$0.contains("warning: data_dir: ") } == ["\(file): ok"])
    }

    @Test("check accepts the README's config")
    func readmeConfig() throws {
        let blocks = try blocks("jsonc", in: "README.md")
        #expect(blocks.count == 1)
        for block in blocks { try Scenario.run { try check($0, block) } }
    }

    @Test("check accepts the config of docs/configuration.md and the members of docs/security.md")
    func documentedConfig() throws {
        let whole = try #require(try blocks("jsonc", in: "docs/configuration.md").first)
        try Scenario.run { try check($0, whole) }
        let members = try #require(try blocks("jsonc", in: "docs/security.md").first)
        let receivers = "\"receivers\": { \"archive\": { \(ReceiverEntry.archive()) } }"
        try Scenario.run { try check($0, "{ \(members) \(receivers) }") }
    }

    @Test("check accepts every example")
    func examples() throws {
        let folder = "\(Project.root)/examples"
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasSuffix(".json") {
            try Scenario.run { try check($0, try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)) }
        }
    }
}
