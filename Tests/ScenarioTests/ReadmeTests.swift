import Foundation
import Testing

@testable import TestSupport

@Suite("What the README and the examples show works")
struct ReadmeTests {
    /// The code blocks of a language in the README.
    private func blocks(_ language: String) throws -> [String] {
        let text = try String(contentsOfFile: "\(Project.root)/README.md", encoding: .utf8)
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
        // Whether the disk here is large enough for its queues is no matter of the README's.
        #expect(process.output.lines.filter { !$0.contains("warning: data_dir: ") } == ["\(file): ok"])
    }

    @Test("The README's config is one that check finds nothing wrong with, and so are the members it adds later")
    func readmeConfig() throws {
        let blocks = try blocks("jsonc")
        #expect(blocks.count == 2)
        try Scenario.run { try check($0, blocks[0]) }
        let receivers = "\"receivers\": { \"archive\": { \(ReceiverEntry.archive()) } }"
        try Scenario.run { try check($0, "{ \(blocks[1]) \(receivers) }") }
    }

    @Test("So is every example")
    func examples() throws {
        let folder = "\(Project.root)/examples"
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            try Scenario.run { try check($0, try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)) }
        }
    }
}
