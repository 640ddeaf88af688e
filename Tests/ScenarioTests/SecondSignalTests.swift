import Glibc
import Testing

@testable import TestSupport

@Suite("A second signal to stop")
struct SecondSignalTests {
    @Test("A second SIGTERM ends the drain at once, and no connection is accepted meanwhile")
    func secondSignal() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url)], more: "\"shutdown_timeout\": \"1h\",")
            let sender = try RawConnection(gateway.port)
            #expect(try sender.post("/ingest?name=app", "x").status == 200)
            try upstream.wait(count: 1)
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "no longer listening")
            #expect(throws: (any Error).self) { try RawConnection(gateway.port) }
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "second signal received")
            #expect(try gateway.process.waitForExit() == 0)
            #expect(gateway.log.lines.contains { $0.contains("profiles lost at shutdown") && $0.contains("count=1") })
        }
    }
}
