import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("gateway send")
struct SendTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
    }

    /// Runs a command of the gateway.
    private func run(_ scenario: Scenario, _ arguments: [String]) throws -> Outcome {
        let process = try scenario.start([try Project.builtGateway()] + arguments)
        let status = try process.waitForExit()
        return Outcome(status: status, output: process.output.lines, errors: process.errors.lines)
    }

    @Test(
        "A file is sent to /ingest with name, times and its detected format",
        arguments: [
            ("go-cpu.pprof", "pprof"), ("java.jfr", "jfr"), ("python.folded", "folded"), ("python.lines", "lines"),
            ("python.speedscope.json", "speedscope"),
        ])
    func ingest(file: String, format: String) throws {
        try Scenario.run { scenario in
            let server = try Recorder(scenario)
            let fixture = Fixture(name: file)
            let outcome = try run(
                scenario,
                [
                    "send", fixture.path, "--to", "\(server.url)/", "--name", "app{env=a b}", "--tenant", "team-a", "--header",
                    "X-Extra: 1",
                    "--from", "now-1h", "--until=1700000000",
                ])
            #expect(outcome.output == ["\(fixture.path): 200 OK"])
            #expect(outcome.status == 0)
            let request = try #require(try server.wait(count: 1).first)
            #expect(request.target == "/ingest?name=app%7Benv%3Da%20b%7D&from=now-1h&until=1700000000&format=\(format)&spyName=gateway")
            #expect(try request.sha256 == Fixture.sha256(ofFile: fixture.path, scenario))
            #expect(request.header("X-Scope-OrgID") == ["team-a"])
            #expect(request.header("X-Extra") == ["1"])
        }
    }

    @Test("--push sends a series with the labels of the name, and --format overrides the detected format")
    func push() throws {
        try Scenario.run { scenario in
            let server = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(server.url)])
            let file = try scenario.write("a profile", to: "profile")
            let outcome = try run(
                scenario, ["send", file, "--push", "--to", "http://127.0.0.1:\(gateway.port)", "--name", "app{env=prod}"])
            #expect((outcome.status, outcome.output) == (0, ["\(file): 200 OK"]))
            let series = try #require(try server.wait(count: 1).first?.series.first)
            let labels = series.labels.map { "\($0.name)=\($0.value)" }
            #expect(labels == ["__name__=process_cpu", "env=prod", "service_name=app"])
            #expect(series.texts == ["a profile"])
            let id = try #require(series.samples.first?.ID)
            #expect(UUID(uuidString: id) != nil)
            try gateway.waitForMetrics("delivery") { $0.delivered("up") == 1 }
            _ = try run(scenario, ["send", file, "--format", "trie", "--to", server.url, "--name", "app"])
            #expect(try server.wait(count: 2).last?.target.contains("format=trie") == true)
        }
    }

    @Test("Any answer except 200 is printed and exits with 1, also when other files succeed")
    func failures() throws {
        try Scenario.run { scenario in
            let server = try Recorder(scenario)
            let file = try scenario.write("x", to: "profile")
            try server.answer(422, body: "{\"message\":\"no\u{1B}[31m\"}")
            let refused = try run(scenario, ["send", file, "--to", server.url, "--name", "app"])
            #expect(refused.status == 1)
            #expect(refused.output == ["\(file): 422 Unprocessable Content {\"message\":\"no\\u001b[31m\"}"])
            try server.answer()
            let missing = try run(scenario, ["send", "none", file, "--to", server.url, "--name", "app"])
            #expect(missing.status == 1)
            #expect(missing.output == ["none: open none: No such file or directory", "\(file): 200 OK"])
            try server.refuse()
            let dead = try run(scenario, ["send", file, "--to", server.url, "--name", "app"])
            #expect(dead.status == 1)
            #expect(dead.output.first?.hasPrefix("\(file): ") == true)
        }
    }

    @Test(
        "Wrong usage exits with 2",
        arguments: [
            ["send"], ["send", "f"], ["send", "f", "--to", "http://127.0.0.1:1"], ["send", "f", "--to", "x", "--name", "a b"],
            ["send", "f", "--to", "x", "--name", "a", "--header", "no colon"], ["send", "f", "--to"], ["send", "f", "--bogus"],
            ["plugins", "word"],
        ])
    func usage(arguments: [String]) throws {
        try Scenario.run { scenario in
            let outcome = try run(scenario, arguments)
            #expect(outcome.status == 2)
            #expect(outcome.output.isEmpty)
            #expect(outcome.errors.count == 1)
        }
    }

    @Test("Progress of several files is shown on a terminal, but not in a pipe")
    func progress() throws {
        try Scenario.run { scenario in
            let server = try Recorder(scenario)
            let files = try (1...3).map { try scenario.write("\($0)", to: "profile\($0)") }
            let words = [try Project.builtGateway(), "send"] + files + ["--to", server.url, "--name", "app"]
            let piped = try run(scenario, Array(words.dropFirst()))
            #expect(piped.output == files.map { "\($0): 200 OK" })
            #expect(piped.errors.isEmpty)
            let command = words.joined(separator: " ")
            let terminal = try scenario.start(["script", "-qec", command, "/dev/null"])
            #expect(try terminal.waitForExit() == 0)
            let seen = terminal.output.lines.joined(separator: "\n")
            for part in files.map({ "\($0): 200 OK" }) + ["1/3 sent", "2/3 sent", "3/3 sent"] { #expect(seen.contains(part)) }
        }
    }
}

@Suite("gateway plugins")
struct PluginsCommandTests {
    private struct Listed: Decodable {
        let plugin: String
        let receivers: [String]
        let name: String?
        let version: String?
        let path: String?
        let sha256: String?
        let interface: String?
        let isolated: [String]?
        let error: String?
    }

    /// Writes a config with the receivers `a` and `b`.
    private func config(_ scenario: Scenario, _ receivers: String) throws -> String {
        try scenario.write(
            "{ \"receive_http\": { \"l\": { \"forward_to\": [\"a\", \"b\"] } }, \"receivers\": { \(receivers) } }", to: "gateway.json")
    }

    @Test("Each plugin is listed once with name, version, file, SHA-256 and receivers, as text and as JSON")
    func listing() throws {
        try Scenario.run { scenario in
            let isolated = "\"b\": { \"plugin\": \"StdoutSink\", \"isolation\": \"process\" }"
            let file = try config(scenario, "\"a\": { \"plugin\": \"StdoutSink\" }, \(isolated)")
            let json = try scenario.start([try Project.builtGateway(), "plugins", "--config", file, "--json"])
            #expect(try json.waitForExit() == 0)
            let listed = try JSONDecoder().decode([Listed].self, from: Data(json.output.lines.joined(separator: "\n").utf8))
            let only = try #require(listed.first)
            #expect(listed.count == 1)
            #expect((only.plugin, only.name, only.receivers) == ("StdoutSink", "gateway.stdout", ["a", "b"]))
            #expect((only.interface, only.isolated) == ("1.1", ["b"]))
            let path = try #require(only.path)
            let sum = try #require(only.sha256)
            #expect(try sum == Fixture.sha256(ofFile: path, scenario))
            let text = try scenario.start([try Project.builtGateway(), "plugins", "--config", file])
            #expect(try text.waitForExit() == 0)
            let version = try #require(only.version)
            let words = [
                "StdoutSink", "gateway.stdout \(version)", path, "interface:1.1", "sha256:\(sum)", "for a, b (in a process of its own)",
            ]
            #expect(text.output.lines == [words.joined(separator: "  ")])
        }
    }

    @Test("A plugin that cannot be loaded is listed with the reason, and the command exits with 1")
    func missing() throws {
        try Scenario.run { scenario in
            let file = try config(scenario, "\"a\": { \"plugin\": \"StdoutSink\" }, \"b\": { \"plugin\": \"Nowhere\" }")
            let process = try scenario.start([try Project.builtGateway(), "plugins", "--config", file])
            #expect(try process.waitForExit() == 1)
            #expect(process.output.lines.count == 2)
            #expect(process.output.lines.last?.hasPrefix("Nowhere  cannot be loaded: no plugin \"Nowhere\"") == true)
        }
    }
}
