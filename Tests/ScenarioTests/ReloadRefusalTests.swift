import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Configs that cannot be reloaded", .serialized)
struct ReloadRefusalTests {
    private static let console = ["console": ReceiverEntry.console()]
    private static let good = GatewayProcess.config(listeners: GatewayProcess.listener(["console"]), receivers: console)

    /// A config with one mistake, and a part of the error message.
    private func bad(_ kind: String, _ scenario: Scenario, taken: UInt16) throws -> (config: String, admin: String, said: String) {
        let other = GatewayProcess.listener(["console"], name: "other")
        let listener = GatewayProcess.listener(["console"])
        func config(_ listeners: String, _ receivers: [String: String] = Self.console) -> String {
            GatewayProcess.config(listeners: listeners, receivers: receivers)
        }
        let up = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"ftp://x\" }] }"
        switch kind {
        case "syntax": return (Self.good + "]", GatewayProcess.admin, "gateway.json:")
        case "unknown member": return ("\"shutdwon_timeout\": \"1s\", \(Self.good)", GatewayProcess.admin, "did you mean shutdown_timeout?")
        case "missing plugin":
            return (config(listener, ["console": "\"plugin\": \"Nowhere\""]), GatewayProcess.admin, "no plugin")
        case "added and broken":
            return (config(listener, Self.console.merging(["up": up]) { $1 }), GatewayProcess.admin, "must begin with http")
        case "changed and broken":
            return (
                config(listener, ["console": ReceiverEntry.console("xml")]), GatewayProcess.admin, "must be \\\"text\\\" or \\\"json\\\""
            )
        case "port in use":
            let moved = other.replacing("\"listen_port\": 0", with: "\"listen_port\": \(taken)")
            let receivers = Self.console.merging(["added": ReceiverEntry.console("json")]) { $1 }
            return (config(listener + moved, receivers), GatewayProcess.admin, "in use")
        case "admin port in use":
            return (Self.good, GatewayProcess.admin.replacing("\"listen_port\": 0", with: "\"listen_port\": \(taken)"), "in use")
        default:
            try scenario.write("no certificate", to: "bad.pem")
            let tls = "\"tls\": { \"cert_file\": \"bad.pem\", \"key_file\": \"bad.pem\" },"
            return (config(GatewayProcess.listener(["console"], more: tls)), GatewayProcess.admin, "tls.cert_file")
        }
    }

    @Test(
        "An invalid config changes nothing, and is reported in the answer, the log, the status page and the metric",
        arguments: [
            "syntax", "unknown member", "missing plugin", "added and broken", "changed and broken", "port in use", "admin port in use",
            "bad certificate",
        ])
    func refused(_ kind: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, Self.good)
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
            try gateway.waitForMetrics("quiet") { $0.delivered("console") == 1 }
            _ = try gateway.postReload()
            let before = try Footprint(gateway)
            let bad = try bad(kind, scenario, taken: upstream.port)
            try gateway.write(bad.config, admin: bad.admin, scenario)
            let answer = try gateway.postReload()
            #expect(answer.status == 400)
            #expect(answer.text.contains("problems") && answer.text.contains(bad.said), "\(answer.text)")
            let state = try gateway.reloadState()
            #expect(!state.successful && !state.problems.isEmpty)
            _ = try gateway.log.wait(for: "each problem") { lines in
                lines.count { $0.contains("config not reloaded") } == state.problems.count ? true : nil
            }
            #expect(try gateway.metrics()["gateway_config_last_reload_successful"] == 0)
            #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
            try gateway.waitForMetrics("nothing new") { $0.receivers == ["console"] && $0.delivered("console") == 2 }
            try gateway.waitForMetrics("what was made to be gone") { _ in (try? Footprint(gateway).holds(before)) == true }
            try gateway.reload(Self.good, scenario)
            #expect(try gateway.metrics()["gateway_config_last_reload_successful"] == 1)
            #expect(try gateway.reloadState().problems == [])
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("/-/reload accepts only POST")
    func method() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, Self.good)
            let answer = try gateway.page("/-/reload")
            #expect(answer.status == 405)
            #expect(answer.header("Allow") == "POST")
        }
    }

    @Test("Concurrent reload requests are all answered")
    func manyAsk() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, Self.good)
            let askers = try (0..<10).map { _ in try RawConnection(gateway.adminPort) }
            for asker in askers { asker.send("POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n") }
            for asker in askers { #expect(try asker.readResponse().status == 200) }
        }
    }

    // MARK: The command

    /// Runs `gateway reload` and returns its exit status and lines.
    private func command(_ scenario: Scenario, _ arguments: String...) throws -> (status: Int32, said: [String]) {
        let process = try scenario.start([try Project.builtGateway(), "reload"] + arguments)
        let status = try process.waitForExit()
        return (status, process.output.lines + process.errors.lines)
    }

    /// Writes a config with the admin address of a running gateway, which chose its port itself.
    private func file(_ scenario: Scenario, port: UInt16, more: String = "") throws -> String {
        try scenario.write("{ \"admin\": { \"listen_address\": \"127.0.0.1\", \"listen_port\": \(port), \(more) } }", to: "admin.json")
    }

    @Test("gateway reload exits with 0 after a reload, 1 with problems or without a gateway, and 2 after wrong usage")
    func reloadCommand() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, Self.good)
            let file = try file(scenario, port: gateway.adminPort)
            var outcome = try command(scenario, "--config", file)
            #expect(outcome.status == 0 && outcome.said == ["reloaded"])
            try gateway.write("\"bogus\": 1, \(Self.good)", scenario)
            outcome = try command(scenario, "--config=\(file)")
            #expect(outcome.status == 1)
            #expect(outcome.said.count == 1 && outcome.said.first?.contains("bogus: unknown") == true, "\(outcome.said)")
            #expect(try command(scenario, "bogus").status == 2)
            #expect(try command(scenario, "--header", "bogus").status == 2)
            #expect(try command(scenario, "--config", scenario.path("none.json")).status == 1)
            try scenario.write("{ \"admin\": null }", to: "off.json")
            outcome = try command(scenario, "--config", scenario.path("off.json"))
            #expect(outcome.status == 1 && outcome.said.first?.contains("SIGHUP") == true)
            #expect(try gateway.stop() == 0)
            outcome = try command(scenario, "--config", file)
            #expect(outcome.status == 1 && outcome.said.first?.contains("SIGHUP") == true)
        }
    }

    @Test("gateway reload trusts the certificate of the config, and sends the given credentials")
    func secureAdmin() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try scenario.write("secret\n", to: "tokens")
            let gateway = try GatewayProcess(scenario, Self.good)
            let guards = "\(Certificates.block()) \"auth\": { \"bearer_tokens_file\": \"tokens\" },"
            let admin = "\"admin\": { \"listen_address\": \"127.0.0.1\", \"listen_port\": 0, \(guards) },"
            try gateway.reload(Self.good, admin: admin, scenario)
            let file = try file(scenario, port: gateway.adminPort, more: guards)
            #expect(try command(scenario, "--config", file).said.first?.contains("401") == true)
            let outcome = try command(scenario, "--config", file, "--header", "Authorization: Bearer secret")
            #expect(outcome.status == 0 && outcome.said == ["reloaded"], "\(outcome.said)")
            try certificates.make("other")
            try scenario.write(
                try String(contentsOfFile: file, encoding: .utf8).replacing("server.", with: "other."), to: "admin.json")
            #expect(try command(scenario, "--config", file, "--header", "Authorization: Bearer secret").status == 1)
            try gateway.write(Self.good, scenario)
            gateway.process.signal(SIGHUP)
            try gateway.waitForReloads(3)
        }
    }
}
