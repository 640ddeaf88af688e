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

    // A sanitizer and LD_PRELOAD exclude each other.
    @Test("A second signal is seen while the gateway waits for a disk that does not answer", .enabled(if: !Project.isSanitized))
    func hangingDisk() throws {
        try Scenario.run { scenario in
            let held = try HeldThread.syncing(scenario)
            try held.letGo()
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["console"]), receivers: ["console": ReceiverEntry.console("json")],
                more: """
                    "data_dir": "\(scenario.path("data"))", "spool": { "sync": "interval", "sync_interval": "10ms" }, "shutdown_timeout": "1h",
                    """)
            let gateway = try GatewayProcess(scenario, config, environment: held.environment)
            try held.hold()
            // It is answered before its sync, so that the gateway waits for the spool alone.
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "x").status == 200)
            try gateway.log.poll(for: "a sync that does not end") { held.isHeld ? true : nil }
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "no longer listening")
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "second signal received")
            try held.letGo()
            // On a busy machine, the disk may answer too late for an orderly end.
            let status = try gateway.process.waitForExit()
            #expect(status == 0 || gateway.log.lines.contains { $0.contains("not everything has ended in time") })
        }
    }
}
