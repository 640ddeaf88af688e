import Foundation
import Testing

@testable import TestSupport

@Suite("Malformed Pushes", .serialized)
struct PushGarbageTests {
    @Test(
        "Randomly damaged Pushes get 200 or 400, and the gateway's counters stay consistent",
        arguments: ["queued", "delivered"])
    func broken(ack: String) throws {
        try Scenario.run { scenario in
            let upstream = try Tap(scenario, "upstream")
            let listener = GatewayProcess.listener(["archive", "up"], more: "\"ack\": \"\(ack)\",")
            let receivers = ["up": ReceiverEntry.writer(upstream.url), "archive": ReceiverEntry.archive()]
            let gateway = try GatewayProcess(scenario, GatewayProcess.config(listeners: listener, receivers: receivers))
            let seed = ProcessInfo.processInfo.environment["GATEWAY_SEED"] ?? "\(UInt32.random(in: 0...UInt32.max))"
            let client = try scenario.start(["python3", "\(Project.servers)/garbage.py", "\(gateway.port)", "2000", seed])
            try #require(try client.waitForExit() == 0, "\(client.output.lines) \(client.errors.lines)")
            let statuses = try JSONDecoder().decode([String: Int].self, from: Data(try #require(client.output.lines.last).utf8))
            #expect(Set(statuses.keys) == ["200", "400"], "\(client.output.lines)")
            let metrics = try gateway.waitForMetrics("quiet") { metrics in metrics.receivers.allSatisfy { metrics.queued($0) == 0 } }
            #expect(metrics.answered(200) == statuses["200"])
            #expect(metrics.delivered("up") == metrics.delivered("archive"))
            // Another protobuf library can read what the gateway wrote.
            for request in try upstream.wait(count: metrics.delivered("up")) { #expect(try request.series.count == 1) }
        }
    }
}
