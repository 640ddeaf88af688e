import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Health, paths and refusals of a listener", .serialized)
struct FrontDoorTests {
    private static let token = "\"auth\": { \"bearer_tokens_file\": \"tokens\" },"

    private func ask(_ gateway: GatewayProcess, _ line: String, headers: String = "") throws -> RawConnection.Response {
        let connection = try RawConnection(gateway.port)
        connection.send("\(line) HTTP/1.1\r\nHost: any\r\nContent-Length: 0\r\n\(headers)\r\n")
        return try connection.readResponse(toHead: line.hasPrefix("HEAD"))
    }

    private func gateway(_ scenario: Scenario, _ listener: String, more: String = "") throws -> GatewayProcess {
        try scenario.write("a-token\n", to: "tokens")
        return try GatewayProcess(scenario, config(listener, more: more))
    }

    private func config(_ listener: String, more: String = "") -> String {
        let listeners = GatewayProcess.listener(["archive"], more: listener)
        return GatewayProcess.config(listeners: listeners, receivers: ["archive": ReceiverEntry.archive()], more: more)
    }

    // MARK: Health

    @Test("Health needs no credentials, everything else does, and \"health\": false turns it off at once")
    func health() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, Self.token)
            for (path, text) in [("/-/healthy", "healthy\n"), ("/-/ready", "ready\n"), ("/ready", "ready\n")] {
                let answer = try ask(gateway, "GET \(path)")
                #expect((answer.status, answer.text) == (200, text))
                #expect(try ask(gateway, "HEAD \(path)").status == 200)
                #expect(try ask(gateway, "POST \(path)").status == 401)
            }
            #expect(try ask(gateway, "GET /ingest?name=a").status == 401)
            #expect(try ask(gateway, "POST /ingest?name=a").status == 401)
            #expect(try ask(gateway, "POST /ready", headers: "Authorization: Bearer a-token\r\n").status == 405)
            try gateway.reload(config(Self.token + "\"health\": false,"), scenario)
            #expect(try ask(gateway, "GET /ready").status == 401)
            #expect(try ask(gateway, "GET /ready", headers: "Authorization: Bearer a-token\r\n").status == 404)
        }
    }

    @Test("While shutdown_delay lasts, listeners say that they are healthy and not ready")
    func delay() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, "", more: "\"shutdown_delay\": \"1h\",")
            #expect(try ask(gateway, "GET /ready").status == 200)
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "not ready any more, but still serving")
            for path in ["/-/ready", "/ready"] { #expect(try ask(gateway, "GET \(path)").status == 503) }
            #expect(try ask(gateway, "GET /-/healthy").status == 200)
            gateway.process.signal(SIGTERM)
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    /// Starts a gateway that is ready, and whose start has not ended, and sends SIGTERM to it.
    private func stopWhileReady(_ scenario: Scenario, _ members: String) throws -> (GatewayProcess, HeldThread) {
        let held = try HeldThread(scenario, message: "READY=1")
        let environment = held.environment.merging(["NOTIFY_SOCKET": scenario.path("nobody")]) { $1 }
        let gateway = try GatewayProcess(scenario, config("", more: members), environment: environment)
        #expect(try ask(gateway, "GET /ready").status == 200)
        gateway.process.signal(SIGTERM)
        try gateway.log.poll(for: "the signal taken by the gateway") {
            let status = try String(contentsOfFile: "/proc/\(gateway.process.id)/status", encoding: .utf8)
            return status.contains("ShdPnd:\t0000000000000000") ? true : nil
        }
        return (gateway, held)
    }

    // A sanitizer and LD_PRELOAD exclude each other.
    @Test("shutdown_delay lasts to its end for a stop right after the gateway became ready too", .enabled(if: !Project.isSanitized))
    func earlyDelay() throws {
        try Scenario.run { scenario in
            // Without the delay, the process would be ended 3.4 s after the signal.
            let (gateway, held) = try stopWhileReady(scenario, "\"shutdown_delay\": \"5s\", \"shutdown_timeout\": \"500ms\",")
            try held.letGo()
            try gateway.log.wait(for: "not ready any more, but still serving")
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("A second signal right after the gateway became ready ends it without a delay", .enabled(if: !Project.isSanitized))
    func earlyHurry() throws {
        try Scenario.run { scenario in
            let (gateway, held) = try stopWhileReady(scenario, "\"shutdown_delay\": \"2h\",")
            gateway.process.signal(SIGINT)
            try gateway.log.wait(for: "second signal received")
            try held.letGo()
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    // MARK: Paths

    @Test("Whatever slashes or prefix a sender wrote, a repeat is one, and the destination gets the usual path")
    func spellings() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            func config(_ prefix: String) -> String {
                let listeners = GatewayProcess.listener(["up"], more: Dedup.long + prefix)
                return GatewayProcess.config(listeners: listeners, receivers: ["up": ReceiverEntry.writer(upstream.url)])
            }
            let gateway = try GatewayProcess(scenario, config(""))
            let connection = try RawConnection(gateway.port)
            for path in ["//ingest", "/ingest", "/ingest/", "///ingest//"] {
                #expect(try connection.post("\(path)?name=a", "a 1").status == 200)
            }
            #expect(try connection.post("/pyroscope//ingest/?name=a", "b 1").status == 200)
            let json = "Content-Type: application/json\r\n"
            let series = try PushSeries.json([PushSeries.numbered(1)])
            for path in ["/\(GatewayProcess.pushPath)/", GatewayProcess.pushPath] {
                #expect(try connection.post(path, series, headers: json).status == 200)
            }
            try gateway.reload(config("\"path_prefix\": \"/profiles/in\","), scenario)
            #expect(try connection.post("/ingest?name=a", "a 1").status == 404)
            for path in ["/profiles/in/ingest", "//profiles//in//ingest/"] {
                #expect(try connection.post("\(path)?name=a", "a 1").status == 200)
            }
            #expect(try connection.post("/profiles/in/ingest?name=c", "c 1").status == 200)
            #expect(try connection.post("/profiles/in\(GatewayProcess.pushPath)", series, headers: json).status == 200)
            try Dedup.settle(gateway)
            let targets = upstream.requests.map(\.target).sorted()
            #expect(targets == ["/ingest?name=a", "/ingest?name=c", "/push.v1.PusherService/Push", "/pyroscope/ingest?name=a"])
            #expect(try gateway.metrics().deduplicated() == 7)
        }
    }

    // MARK: Refusals

    /// The warnings with these texts.
    private func warnings(_ gateway: GatewayProcess, _ texts: String...) -> [String] {
        gateway.log.lines.filter { line in line.contains("level=warning") && texts.allSatisfy(line.contains) }
    }

    @Test("Of each kind of refusal the first is in the log, with path and peer and without the query")
    func refusals() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, Self.token + "\"tenant\": { \"allow\": [\"t\"] },")
            let credentials = "Authorization: Bearer a-token\r\n"
            for _ in 0..<3 {
                #expect(try ask(gateway, "POST /nowhere/\"x?key=a-secret", headers: credentials).status == 404)
                #expect(try ask(gateway, "POST /ingest?name=a&key=a-secret").status == 401)
                #expect(try ask(gateway, "POST /ingest?name=a&key=a-secret", headers: credentials + "X-Scope-OrgID: u\r\n").status == 403)
                #expect(try ask(gateway, "POST /ingest?key=a-secret", headers: credentials + "X-Scope-OrgID: t\r\n").status == 400)
                #expect(try ask(gateway, "POST /in gest?key=a-secret").status == 400)
                #expect(try ask(gateway, "PUT /ingest?name=a", headers: credentials).status == 405)
            }
            #expect(try gateway.stop() == 0)
            let all = warnings(gateway, "msg=\"request refused\" listener=default", "peer=127.0.0.1 count=1 reason=")
            #expect(all.count == 4 && warnings(gateway, "refused").count == 4, "\(gateway.log.lines)")
            let expected = [
                ("404", "path=\"/nowhere/\\\"x\" "), ("401", "path=/ingest "), ("403", "path=/ingest "), ("400", "path=/ingest "),
            ]
            for (status, path) in expected { #expect(all.count { $0.contains("status=\(status) \(path)") } == 1, "\(all)") }
            #expect(gateway.log.lines.allSatisfy { !$0.contains("a-secret") && !$0.contains("a-token") })
        }
    }

    @Test("A long path is cut, and a request that has none is logged without")
    func paths() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, "")
            #expect(try ask(gateway, "POST /" + String(repeating: "p", count: 500)).status == 404)
            let malformed = try RawConnection(gateway.port)
            malformed.send("@\r\n")
            #expect(try malformed.readResponse().status == 400)
            try gateway.log.wait(for: "level=warning", "status=404", "path=/" + String(repeating: "p", count: 127) + " peer")
            try gateway.log.wait(for: "level=warning", "status=400", "path=\"\" peer=127.0.0.1")
        }
    }

    @Test("A mistake in a handshake is in the log once")
    func handshakes() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let gateway = try gateway(scenario, Certificates.block())
            for _ in 0..<3 {
                let garbage = try RawConnection(gateway.port)
                // A record with a message that no handshake has.
                garbage.send([0x16, 3, 1, 0, 4, 99, 0, 0, 0])
                _ = try? garbage.readToEnd()
            }
            try gateway.waitForMetrics("three failures") { $0["gateway_tls_handshake_errors_total{listener=\"default\"}"] == 3 }
            let plain = try RawConnection(gateway.port)
            #expect(try plain.post("/ingest?name=a").status == 400)
            try gateway.log.wait(for: "level=warning", "status=400", "peer=127.0.0.1", "HTTPS")
            #expect(warnings(gateway, "msg=\"TLS handshake failed\"", "listener=default peer=127.0.0.1 count=1 reason=").count == 1)
            #expect(warnings(gateway, "refused").count == 1)
        }
    }
}
