import Glibc
import Testing

@testable import TestSupport

@Suite("Standard error that nobody reads", .serialized)
struct StuckLogTests {
    private static let pathOfManyBytes = "/" + String(repeating: "p", count: 100)

    /// Makes the gateway log more than the pipe and its buffer hold, one line a request.
    private func fill(_ gateway: GatewayProcess) throws {
        let connection = try RawConnection(gateway.port)
        defer { connection.close() }
        try gateway.waitForMetrics("dropped lines") { metrics in
            for _ in 0..<100 { connection.send("POST \(Self.pathOfManyBytes) HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n") }
            for _ in 0..<100 { _ = try? connection.readResponse() }
            return metrics["gateway_log_lines_dropped_total"] > 0
        }
    }

    @Test("An unread log blocks no sender or receiver, and dropped lines are counted and reported")
    func nothingStops() throws {
        try Scenario.run { scenario in
            let (upstream, refusing) = (try Recorder(scenario), try Recorder(scenario))
            try refusing.answer(400)
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url), "bad": ReceiverEntry.writer(refusing.url)],
                more: "\"log\": { \"level\": \"debug\" },")
            gateway.log.hold()
            try fill(gateway)
            // Each profile causes a warning of the receiver that rejects it.
            try gateway.send(50)
            try gateway.waitForMetrics("50 outcomes of both") { $0.delivered("up") == 50 && $0.dropped("bad", "rejected") == 50 }
            let metrics = try gateway.metrics()
            gateway.log.letGo()
            let notice = try gateway.log.wait(for: "level=warning", "log lines were dropped")
            let count = try #require(GatewayProcess.field("count", of: notice).flatMap { Int($0) })
            #expect(count >= metrics["gateway_log_lines_dropped_total"])
            try gateway.send(1)
            try gateway.log.wait(for: "level=warning", "receiver=bad", "rejected")
            #expect(gateway.log.lines.allSatisfy { $0.hasPrefix("ts=") }, "no line is cut")
            #expect(gateway.log.lines.count { $0.contains("log lines were dropped") } == 1)
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("An unread log does not keep the gateway from ending")
    func ends() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url)], more: "\"log\": { \"level\": \"debug\" },")
            gateway.log.hold()
            try fill(gateway)
            gateway.process.signal(SIGTERM)
            #expect(try gateway.process.waitForStatus() == 0)
            gateway.log.letGo()
            try gateway.log.waitForEnd()
        }
    }

    @Test("A failed start is logged before the process ends")
    func failedStart() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let file = try scenario.write(
                """
                { "admin": null,
                  "receive_http": { "d": { "http": { "listen_address": "127.0.0.1", "listen_port": \(upstream.port) }, "forward_to": ["a"] } },
                  "receivers": { "a": { \(ReceiverEntry.archive()) } } }
                """, to: "gateway.json")
            let process = try scenario.start([try Project.builtGateway(), "run", "--config", file])
            #expect(try process.waitForExit() == 1)
            #expect(process.errors.lines.contains { $0.contains("cannot start") && $0.contains("in use") })
        }
    }
}
