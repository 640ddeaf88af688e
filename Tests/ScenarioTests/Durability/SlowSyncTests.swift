import Foundation
import Testing

@testable import TestSupport

/// A disk that does not end its syncs.
@Suite("Slow syncs", .enabled(if: !Project.isSanitized, "a sanitizer and LD_PRELOAD exclude each other"))
struct SlowSyncTests {
    @Test(
        "Senders do not wait for a sync that their 200 does not promise",
        arguments: [#""interval", "sync_interval": "10ms""#, #""interval", "sync_interval": "1h""#, #""never""#])
    func answers(sync: String) throws {
        try Scenario.run { scenario in
            let held = try HeldThread.syncing(scenario)
            try held.letGo()
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["console"]), receivers: ["console": ReceiverEntry.console("json")],
                more: SpoolMembers.members("\"sync\": \(sync), \"segment_bytes\": \"256KiB\""))
            let gateway = try GatewayProcess(scenario, config, environment: held.environment)
            try held.hold()
            let body = String(repeating: "x", count: 100_000)
            func post() throws -> Int? { try RawConnection(gateway.port).post("/ingest?name=app", body).status }
            // A segment has room for two. The sync that closes the first one is held while the second one is written.
            for _ in 0..<4 { #expect(try post() == 200) }
            try gateway.log.poll(for: "a sync that does not end") { held.isHeld ? true : nil }
            try held.letGo()
            for _ in 0..<4 { #expect(try post() == 200) }
            gateway.process.signal(SIGTERM)
            #expect(try gateway.process.waitForExit() == 0)
        }
    }
}
