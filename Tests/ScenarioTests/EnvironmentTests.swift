import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Environment variables in the config, and warnings of check")
struct EnvironmentTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
    }

    /// Runs a command of the gateway.
    private func gateway(_ scenario: Scenario, _ arguments: String..., environment: [String: String] = [:]) throws -> Outcome {
        let process = try scenario.start([try Project.builtGateway()] + arguments, environment: environment)
        return Outcome(status: try process.waitForExit(), output: process.output.lines, errors: process.errors.lines)
    }

    /// A config with one listener and one receiver.
    private func config(_ receiver: String, listener: String = "", more: String = "") -> String {
        GatewayProcess.config(listeners: GatewayProcess.listener(["up"], more: listener), receivers: ["up": receiver], more: more)
    }

    @Test("Secrets, numbers and booleans of a plugin's config come from the environment, and a lone dollar stays")
    func substituted() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let members =
                #""basic_auth": { "username": "${WHO:-me}", "password": "${WORD}" }, "headers": { "X-Scope-OrgID": "$WHO" }, "enable_http2": "${OFF}""#
            let gateway = try GatewayProcess(
                scenario,
                config(
                    ReceiverEntry.endpoint("http://127.0.0.1:${UP_PORT}", members, config: #""batch": { "max_profiles": "${COUNT}" }"#),
                    listener: #""ack": "${ACK:-delivered}","#),
                environment: ["WORD": "p\"a${WHO}s", "UP_PORT": "\(upstream.port)", "OFF": "false", "COUNT": "3"])
            try gateway.send(1)
            let request = try #require(try upstream.wait(count: 1).first)
            #expect(request.header("Authorization") == ["Basic \(Data("me:p\"a${WHO}s".utf8).base64EncodedString())"])
            #expect(request.header("X-Scope-OrgID") == ["$WHO"])
            // A reload reads the environment again, which has not changed.
            gateway.process.signal(SIGHUP)
            try gateway.waitForReloads(1)
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("check and run report unset variables with their position, and errors of a plugin do not show values")
    func refused() throws {
        try Scenario.run { scenario in
            let entry = ReceiverEntry.endpoint(
                "http://host", "\n\"bearer_token\": \"${TOKEN}\",\n\"enable_http2\": \"${WORD}\"", more: "")
            let file = try scenario.write("{ \(config(entry)) }", to: "gateway.json")
            let place = "receivers.up.config.endpoint[0]"
            let unset = try gateway(scenario, "check", "--config", file)
            #expect(unset.status == 1)
            #expect(
                unset.output.map { $0.replacing("\(file):", with: "") } == [
                    "4:17: \(place).bearer_token: the environment variable TOKEN is not set, and no default is given",
                    "5:17: \(place).enable_http2: the environment variable WORD is not set, and no default is given",
                ])
            #expect(try gateway(scenario, "run", "--config", file).errors == unset.output)
            let wrong = try gateway(scenario, "check", "--config", file, environment: ["TOKEN": "", "WORD": "hunter2"])
            #expect(wrong.status == 1)
            #expect(
                wrong.output.map { $0.replacing("\(file):", with: "") } == [
                    "4:17: \(place).bearer_token: is empty",
                    "5:17: \(place).enable_http2: must be true or false, is what the environment says",
                ])
        }
    }

    @Test("Other commands need only the environment variables that they use")
    func otherCommands() throws {
        try Scenario.run { scenario in
            let entry = ReceiverEntry.endpoint("http://host", "\"bearer_token\": \"${TOKEN}\"", more: "")
            let running = try GatewayProcess(
                scenario, config(entry, more: "\"data_dir\": \"data\","), environment: ["TOKEN": "t"])
            let file = scenario.path("gateway.json")
            #expect(try gateway(scenario, "queue", "list", "--config", file).status == 0)
            #expect(try gateway(scenario, "plugins", "--config", file).status == 0)
            #expect(try gateway(scenario, "check", "--config", file).status == 1)
            let text = try String(contentsOfFile: file, encoding: .utf8)
            let moved = try scenario.write(
                text.replacing("\"data\"", with: "\"${DATA}\"").replacing("\"listen_port\": 0 }", with: "\"listen_port\": \"${ADMIN}\" }"),
                to: "moved.json")
            let list = try gateway(scenario, "queue", "list", "--config", moved)
            #expect(
                list.status == 1 && list.errors.count == 1 && list.errors[0].contains("data_dir: the environment variable DATA is not set"))
            #expect(try gateway(scenario, "queue", "list", "--config", moved, environment: ["DATA": "data"]).status == 0)
            let reload = try gateway(scenario, "reload", "--config", moved)
            #expect(
                reload.status == 1 && reload.errors.first?.contains("the environment variable ADMIN is not set") == true, "\(reload.errors)"
            )
            let reloaded = try gateway(scenario, "reload", "--config", moved, environment: ["ADMIN": "\(running.adminPort)"])
            #expect(reloaded.output == ["reloaded"])
        }
    }

    @Test("check prints warnings with their position and exits with 0, and run logs them and starts")
    func warnings() throws {
        try Scenario.run { scenario in
            try scenario.write("hunter2\n", to: "word")
            try scenario.write("t0ken\n", to: "tokens")
            for (name, mode) in [("word", 0o604), ("tokens", 0o644)] as [(String, mode_t)] { chmod(scenario.path(name), mode) }
            let entry = ReceiverEntry.endpoint(
                "https://host", "\n\"basic_auth\": { \"username\": \"u\",\n\"password_file\": \"word\" }",
                more: "\"queue\": { \"max_bytes\": \"9000TiB\" }")
            let text = GatewayProcess.config(
                listeners: """
                    "public": { "http": { "listen_port": 0 },
                    "auth": { "bearer_tokens_file": "tokens" }, "forward_to": ["up"] }
                    """, receivers: ["up": entry], more: "\"data_dir\": \"data\",\n\(GatewayProcess.admin)")
            let file = try scenario.write("{ \(text) }", to: "gateway.json")
            let check = try gateway(scenario, "check", "--config", file)
            #expect(check.status == 0)
            #expect(check.errors == [])
            let expected = [
                ":1:15: warning: data_dir: the max_bytes of the queues on disk are together ",
                ":4:9: warning: receive_http.public.auth: is given without tls, so passwords and tokens travel in the clear",
                ":4:33: warning: receive_http.public.auth.bearer_tokens_file: tokens holds a secret and is open to others (mode 644)",
                ":7:18: warning: receivers.up.config.endpoint[0].basic_auth.password_file: word holds a secret and is open to others (mode 604)",
                ": ok",
            ]
            #expect(check.output.count == expected.count, "\(check.output)")
            for (line, start) in zip(check.output, expected) { #expect(line.hasPrefix(file + start), "\(line)") }
            let run = try scenario.start([try Project.builtGateway(), "run", "--config", file])
            try run.errors.wait(for: "msg=ready")
            for words in ["max_bytes", "without tls", "tokens holds", "word holds"] { try run.errors.wait(for: "level=warning", words) }
            run.signal(SIGTERM)
            #expect(try run.waitForExit() == 0)
        }
    }
}
