import Foundation
import Testing

@testable import TestSupport

@Suite("Leaks of descriptors, threads and memory", .serialized)
struct LeakTests {
    /// Sends on several connections at once, each from its own thread, and returns how many requests got 200.
    private func send(_ gateway: GatewayProcess, connections: Int, each: Int, body: String) throws -> Int {
        let port = gateway.port
        let (lock, done) = (NSLock(), DispatchGroup())
        nonisolated(unsafe) var accepted = 0
        for _ in 0..<connections {
            done.enter()
            Thread.detachNewThread {
                defer { done.leave() }
                guard let connection = try? RawConnection(port) else { return }
                let statuses = (0..<each).map { _ in (try? connection.post("/ingest?name=load&format=pprof", body).status) ?? 0 }
                lock.withLock { accepted += statuses.count { $0 == 200 } }
            }
        }
        done.wait()
        return accepted
    }

    @Test("10,000 sequential requests and 64 parallel connections leak no descriptor, thread or memory")
    func footprint() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    // With one delivery at a time there is one upstream connection; otherwise the recorder's speed decides the number.
                    "up": ReceiverEntry.writer(upstream.url, more: "\"max_in_flight\": 1,"), "console": ReceiverEntry.console(),
                ])
            let body = String(repeating: "x", count: 2000)
            var sent = 0
            func round(_ connections: Int, _ each: Int) throws -> Footprint {
                #expect(try send(gateway, connections: connections, each: each, body: body) == connections * each)
                sent += connections * each
                try gateway.waitForMetrics("a quiet gateway") {
                    $0.delivered("up") == sent && $0.delivered("console") == sent && $0.connections() == 0
                }
                return try Footprint(gateway)
            }
            _ = try round(1, 1000)
            let warm = try round(64, 16)
            let sequential = try round(1, 10_000)
            let parallel = try round(64, 32)
            // A sanitizer keeps freed memory, to detect its use.
            if !Project.isSanitized {
                // The memory of a backlog is returned shortly after the last delivery.
                try gateway.waitForMetrics("the memory of the backlog to come back") {
                    $0["process_resident_memory_bytes"] < (warm.residentKilobytes + 8 * 1024) * 1024
                }
            }
            for later in [sequential, parallel] {
                #expect(later.descriptors <= warm.descriptors)
                #expect(later.threads <= warm.threads)
            }
        }
    }

    @Test("A thousand broken connections leak no descriptor")
    func brokenConnections() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            func round() throws -> Footprint {
                for number in 0..<500 {
                    let connection = try RawConnection(gateway.port)
                    connection.send(
                        number % 2 == 0 ? "POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx" : "garbage\r\n\r\n")
                    if number % 3 == 0 { connection.reset() } else { connection.close() }
                }
                // This connection is accepted after all others, so none of them is still to come.
                #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1", headers: "Connection: close\r\n").status == 200)
                try gateway.waitForMetrics("no connection") { $0.connections() == 0 && $0.queued("console") == 0 }
                return try Footprint(gateway)
            }
            let first = try round()
            let second = try round()
            #expect(second.descriptors <= first.descriptors)
            #expect(second.threads <= first.threads)
        }
    }
}
