import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Shutdown", .serialized)
struct ShutdownTests {
    private func status(_ gateway: GatewayProcess, _ path: String) throws -> Int {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        return try connection.readResponse().status
    }

    @Test(
        "SIGTERM and SIGINT deliver the queue before the exit with 0, and meanwhile the gateway is healthy but not ready",
        arguments: [SIGTERM, SIGINT])
    func drains(_ signal: Int32) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, more: "\"max_in_flight\": 4,")])
            #expect(try status(gateway, "/-/ready") == 200)
            #expect(try status(gateway, "/-/healthy") == 200)
            try gateway.send(20)
            try upstream.wait(count: 4)
            gateway.process.signal(signal)
            try gateway.log.wait(for: "no longer listening")
            try gateway.waitForMetrics("an admin listener that still answers") { $0.queued("up") == 20 }
            #expect(try status(gateway, "/-/healthy") == 200)
            while try status(gateway, "/-/ready") != 503 { gateway.log.pause() }
            try upstream.answer()
            #expect(try gateway.process.waitForExit() == 0)
            #expect(upstream.texts == GatewayProcess.bodies(0..<20))
            #expect(gateway.log.lines.last?.contains("msg=stopped status=0") == true)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("lost") })
        }
    }

    @Test("A request that is open at SIGTERM gets its 200, and its profile is delivered")
    func requestInFlight() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console("json")])
            let idle = try RawConnection(gateway.port)
            #expect(try idle.post("/ingest?name=idle", "a 1").status == 200)
            let connection = try RawConnection(gateway.port)
            connection.send("POST /ingest?name=inflight HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n")
            #expect(try connection.readResponse().status == 100)
            connection.send("main")
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "no longer listening")
            #expect(try idle.readToEnd() == "", "an idle connection is closed at once")
            connection.send(";x 1")
            let answer = try connection.readResponse()
            #expect(answer.status == 200)
            #expect(answer.header("Connection") == "close")
            #expect(try connection.readToEnd() == "")
            #expect(try gateway.process.waitForExit() == 0)
            #expect(try gateway.process.output.waitForEnd().contains { $0.contains("inflight") })
        }
    }

    @Test(
        "The first request of a client that has just connected is served, and later the connection closes",
        arguments: ["SIGTERM", "reload"],
        [false, true])
    func justConnected(end: String, isProxied: Bool) throws {
        let limit = ContinuousClock.now + .seconds(Project.patience)
        while true {
            var answer: RawConnection.Response?
            try Scenario.run { scenario in
                let gateway = try GatewayProcess(
                    scenario, receivers: ["console": ReceiverEntry.console()],
                    http: isProxied ? "\"trusted_proxies\": [\"127.0.0.1\"], \"proxy_protocol\": true," : "")
                let request = "POST /ingest?name=first HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1"
                let first = (isProxied ? "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" : "") + request
                let idle = try RawConnection(gateway.port)
                idle.send(first)
                #expect(try idle.readResponse().status == 200)
                let (silent, connection) = (try RawConnection(gateway.port), try RawConnection(gateway.port))
                try gateway.waitForMetrics("three connections") { $0.connections() == 3 }
                if end == "SIGTERM" {
                    gateway.process.signal(SIGTERM)
                    try gateway.log.wait(for: "no longer listening")
                } else {
                    let config = try String(contentsOfFile: scenario.path("gateway.json"), encoding: .utf8)
                    _ = try scenario.write(config.replacing("\"default\"", with: "\"other\""), to: "gateway.json")
                    gateway.process.signal(SIGHUP)
                    try gateway.log.wait(for: "config reloaded")
                }
                #expect(try idle.readToEnd() == "")
                connection.send(first)
                answer = try? connection.readResponse()
                #expect(try silent.readToEnd() == "")
                if end == "SIGTERM" { #expect(try gateway.process.waitForExit() == 0) }
            }
            if let answer {
                #expect(answer.status == 200 && answer.header("Connection") == "close")
                return
            }
            // On a busy machine the request may come more than a second after the connection.
            try #require(ContinuousClock.now < limit, "no request was served on a connection that was there before")
        }
    }

    @Test("A sender that never finishes its request gets 503 at shutdown, and the process ends")
    func endlessRequest() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], more: "\"shutdown_timeout\": \"1s\",")
            let connection = try RawConnection(gateway.port)
            connection.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n")
            #expect(try connection.readResponse().status == 100)
            gateway.process.signal(SIGTERM)
            let answer = try connection.readResponse()
            #expect(answer.status == 503)
            #expect(answer.header("Retry-After") != nil)
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("Profiles that a dead upstream did not accept within shutdown_timeout are logged as lost, and the exit status is 0")
    func deadAtShutdown() throws {
        try Scenario.run { scenario in
            let (refusing, silent) = (try Recorder(scenario), try Recorder(scenario))
            try refusing.refuse()
            try silent.hold()
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "refusing": ReceiverEntry.writer(refusing.url), "silent": ReceiverEntry.writer(silent.url),
                    "archive": ReceiverEntry.archive(),
                ], more: "\"shutdown_timeout\": \"1s\",")
            try gateway.send(10)
            try silent.wait(count: 10)
            try gateway.waitForMetrics("what can be delivered") { $0.delivered("archive") == 10 }
            #expect(try gateway.stop() == 0)
            for receiver in ["refusing", "silent"] {
                #expect(
                    gateway.log.lines.contains { $0.contains("lost") && $0.contains("receiver=\(receiver)") && $0.contains("count=10") })
            }
            #expect(!gateway.log.lines.contains { $0.contains("lost") && $0.contains("receiver=archive") })
            #expect(scenario.files(under: "archive").count == 20)
        }
    }

    @Test("A terminal that does not read delays the exit no longer than shutdown_timeout, also with two receivers")
    func blockedOutput() throws {
        try Scenario.run { scenario in
            let listeners = GatewayProcess.listener(["second"], name: "default") + GatewayProcess.listener(["first"], name: "other")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: listeners, receivers: ["first": ReceiverEntry.console(), "second": ReceiverEntry.console("json")],
                    more: "\"shutdown_timeout\": \"1s\","), stdout: .unread)
            // The second receiver fills the pipe and waits for its reader, and then the first one has a line to write.
            try gateway.send(1000, to: "/ingest?name=\(String(repeating: "long", count: 100))")
            try gateway.waitForMetrics("a full pipe") { $0.queued("second") > 0 && $0.delivered("second") > 20 }
            let other = try RawConnection(gateway.ports["other"] ?? 0)
            #expect(try other.post("/ingest?name=a", "a 1").status == 200)
            other.close()
            #expect(try gateway.stop() == 0)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("did not end") })
        }
    }

    @Test("SIGHUP reloads the config, and the gateway continues")
    func hangup() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            gateway.process.signal(SIGHUP)
            try gateway.log.wait(for: "config reloaded")
            try gateway.send(1)
            try gateway.waitForMetrics("a delivery") { $0.delivered("console") == 1 }
            #expect(try gateway.stop() == 0)
        }
    }
}
