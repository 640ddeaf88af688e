import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Watching a gateway", .serialized)
struct WatchingTests {
    private struct Outcome {
        let status: Int32
        let output: [String]
        let errors: [String]
    }

    /// Runs `gateway status` with a config whose admin listener has this port.
    private func status(_ scenario: Scenario, _ port: UInt16, _ options: String...) throws -> Outcome {
        let admin = "\"admin\": { \"listen_address\": \"127.0.0.1\", \"listen_port\": \(port) }"
        let file = try scenario.write("{ \(admin) }", to: "admin.json")
        let process = try scenario.start([try Project.builtGateway(), "status", "--config", file] + options)
        let status = try process.waitForExit()
        return Outcome(status: status, output: process.output.lines, errors: process.errors.lines)
    }

    // MARK: gateway status

    @Test("status prints listeners, receivers with health and reason, the spool and the last reload, or with --json the page")
    func statusInWords() throws {
        try Scenario.run { scenario in
            let dead = try Recorder(scenario)
            try dead.answer(500, body: "out of paper\u{1B}[31m")
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "archive": ReceiverEntry.archive(),
                    "dead": ReceiverEntry.writer(dead.url, more: "\"required\": false, \(ReceiverEntry.quickRetry)"),
                ], more: "\"data_dir\": \"data\",")
            try gateway.send(6)
            #expect(try RawConnection(gateway.port).post("/nowhere", "x").status == 404)
            try gateway.waitForMetrics("a failed receiver") {
                $0.delivered("archive") == 6 && $0.health("dead") == 2 && $0.connections() == 0
            }

            let seen = try status(scenario, gateway.adminPort)
            #expect((seen.status, seen.errors) == (0, []))
            let lines = seen.output
            #expect(lines.first?.contains(#/^gateway \d+\.\d+\.\d+ is ready, with the config .*gateway\.json$/#) == true, "\(lines)")
            #expect(lines.contains { $0.hasPrefix("the config was last read at ") && $0.hasSuffix(", and is what runs") })
            let listener = lines.first { $0.hasPrefix("default ") }?.split(separator: " ").map(String.init) ?? []
            #expect(Array(listener.prefix(4)) == ["default", "127.0.0.1:\(gateway.port)", "0", "6"], "\(lines)")
            #expect(lines.contains { $0.contains(#/^archive +ok +0 +0 B +0 +0 +0 +\S+ \d/#) }, "\(lines)")
            #expect(lines.contains { $0.contains(#/^dead +failed +6 +[\d.]+ \S+ +\d/#) }, "\(lines)")
            #expect(lines.contains { $0.contains(#/^archive +6 +[\d.]+ +(-|[\d.]+ \S+) +- +0 +0 +0 +none$/#) }, "\(lines)")
            #expect(lines.contains { $0.contains(#/^dead +0 +0 .*[1-9]\d* +0 +0 +none$/#) }, "\(lines)")
            #expect(lines.contains("default: refused: 404 Not Found: 1"), "\(lines)")
            #expect(lines.contains { $0.contains(#/^memory: [\d.]+ MiB$/#) }, "\(lines)")
            #expect(lines.contains { $0.hasPrefix("dead: health: ") && $0.contains("out of paper") })
            #expect(lines.contains { $0.hasPrefix("dead: last error: ") && $0.contains("HTTP 500") })
            #expect(lines.last?.contains(#/^spool: segments: \d+, \d/#) == true, "\(lines)")
            #expect(lines.allSatisfy { $0.unicodeScalars.allSatisfy { $0.value >= 0x20 } })

            let json = try status(scenario, gateway.adminPort, "--json")
            #expect(json.status == 0)
            let page = try JSONSerialization.jsonObject(with: Data(json.output.joined().utf8)) as? [String: Any]
            #expect((page?["receivers"] as? [Any])?.count == 2)
        }
    }

    @Test("status names the problems of a config that was refused")
    func refusedConfig() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            try gateway.write("\"receive_htp\": {}", scenario)
            #expect(try gateway.postReload().status == 400)
            let seen = try status(scenario, gateway.adminPort)
            #expect(seen.status == 0)
            #expect(seen.output.contains { $0.hasSuffix(", and refused; the one before runs") })
            #expect(seen.output.contains { $0.hasPrefix("  ") && $0.contains("receive_htp") }, "\(seen.output)")
            #expect(seen.output.last == "spool: none")
        }
    }

    @Test("status exits with 1 where no gateway answers, and says why")
    func noGateway() throws {
        let answers = [
            "401 Unauthorized": "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
            "no gateway's status": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "ended in the middle": "HTTP/1.1 200 OK\r\nContent-Len",
        ]
        for (words, raw) in answers {
            try Scenario.run { scenario in
                let server = try AnswerServer(scenario, ["api": AnswerServer.Answer(raw: raw, then: "close")])
                let seen = try status(scenario, server.port)
                #expect(seen.status == 1)
                #expect((seen.output + seen.errors).joined().contains(words), "\(seen.output) \(seen.errors)")
            }
        }
        try Scenario.run { scenario in
            let gone = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            #expect(try gone.stop() == 0)
            let seen = try status(scenario, gone.adminPort)
            #expect(seen.status == 1 && seen.output == [] && seen.errors.count == 1, "\(seen.errors)")
        }
    }

    // MARK: Metrics

    @Test("The age of a profile is counted from its until, or else from its arrival, and is never negative")
    func profileAge() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            func sample(_ name: String, _ more: String = "") -> String {
                "gateway_profile_age_seconds_\(name){receiver=\"console\"\(more)}"
            }
            try gateway.send(1, to: "/ingest?name=a&from=now-1d&until=now-20h")
            let old = try gateway.waitForMetrics("a delivery") { $0.delivered("console") == 1 && $0[sample("count")] == 1 }
            #expect(old[sample("bucket", ",le=\"60\"")] == 0)
            #expect(old.value(sample("sum")) >= 72_000)

            try gateway.send(1, to: "/ingest?name=a&from=now&until=now%2B1d")
            try gateway.send(1)
            let all = try gateway.waitForMetrics("deliveries") { $0[sample("count")] == 3 }
            #expect(all[sample("bucket", ",le=\"0.001\"")] >= 1)
            #expect(all[sample("bucket", ",le=\"60\"")] == 2)
        }
    }

    @Test("The oldest queued profile has an age while it waits")
    func queueAge() throws {
        try Scenario.run { scenario in
            let dead = try Recorder(scenario)
            try dead.answer(503)
            let gateway = try GatewayProcess(
                scenario, receivers: ["dead": ReceiverEntry.writer(dead.url, more: ReceiverEntry.quickRetry)])
            let oldest = "gateway_queue_oldest_seconds{receiver=\"dead\"}"
            #expect(try gateway.metrics().value(oldest) == 0)
            try gateway.send(1)
            let waiting = try gateway.waitForMetrics("a profile that waits") { $0.value(oldest) > 0 }.value(oldest)
            try gateway.waitForMetrics("one that waits for longer") { $0.value(oldest) > waiting }
            try dead.answer(200)
            try gateway.waitForMetrics("an empty queue") { $0.delivered("dead") == 1 && $0.value(oldest) == 0 }
        }
    }

    @Test("The expiry of a listener's certificate is shown, and follows a renewed one")
    func expiry() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let listener = GatewayProcess.listener(["console"], more: Certificates.block())
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()]))
            let sample = "gateway_certificate_expiry_timestamp_seconds{listener=\"default\"}"
            func days() throws -> Double { (try gateway.metrics().value(sample) - Date.now.timeIntervalSince1970) / 86_400 }
            #expect((1.9...2.1).contains(try days()))
            #expect(try gateway.metrics().value("gateway_certificate_expiry_timestamp_seconds{listener=\"admin\"}") == 0)

            try certificates.make("next", days: 20)
            for name in ["pem", "key"] {
                #expect(rename(scenario.path("next.\(name)"), scenario.path("server.\(name)")) == 0)
            }
            try gateway.log.wait(for: "TLS certificates read again")
            #expect((19.9...20.1).contains(try days()))
        }
    }
}
