import Testing

@testable import TestSupport

@Suite("Queue limits", .serialized)
struct QueueTests {
    /// Runs a test with an upstream that holds the first two deliveries open, and a queue with limits.
    private func run(queue: String, _ body: (GatewayProcess, Recorder) throws -> Void) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, more: "\"max_in_flight\": 2, \"queue\": { \(queue) },")])
            try gateway.send(2)
            try upstream.wait(count: 2)
            try body(gateway, upstream)
        }
    }

    @Test("Over max_profiles the oldest waiting profiles are dropped, not the newest and not open deliveries")
    func maxProfiles() throws {
        try run(queue: "\"max_profiles\": 10") { gateway, upstream in
            try gateway.send(8, from: 2)
            #expect(try gateway.metrics().dropped("up") == 0, "at the bound nothing is dropped")
            try gateway.send(5, from: 10)
            let metrics = try gateway.metrics()
            #expect(metrics.queued("up") == 10)
            #expect(metrics.dropped("up", "queue_full") == 5)
            try gateway.checkAccounts()
            try upstream.answer()
            try gateway.waitForMetrics("10 deliveries") { $0.delivered("up") == 10 }
            #expect(upstream.texts == GatewayProcess.bodies(0..<2).merging(GatewayProcess.bodies(7..<15)) { $1 })
        }
    }

    @Test("Over max_bytes the oldest waiting profiles are dropped, and the queue stays below the limit")
    func maxBytes() throws {
        try run(queue: "\"max_bytes\": \"64KiB\"") { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for number in 0..<20 {
                let body = "\(number) " + String(repeating: "x", count: 10 * 1024)
                #expect(try connection.post("/ingest?name=a", body).status == 200)
                #expect(try gateway.metrics().queuedBytes("up") <= 64 * 1024)
            }
            let metrics = try gateway.metrics()
            #expect(metrics.queued("up") >= 5)
            #expect(metrics.dropped("up", "queue_full") == 22 - metrics.queued("up"))
            try upstream.answer()
            try gateway.waitForMetrics("quiet") { $0.queued("up") == 0 }
        }
    }

    @Test("A profile larger than max_bytes is dropped as too_large and evicts no other")
    func tooLarge() throws {
        try run(queue: "\"max_bytes\": \"64KiB\"") { gateway, upstream in
            try gateway.send(3, from: 2)
            let body = String(repeating: "x", count: 64 * 1024)
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", body).status == 200)
            let metrics = try gateway.metrics()
            #expect(metrics.dropped("up", "too_large") == 1)
            #expect(metrics.dropped("up") == 1)
            #expect(metrics.queued("up") == 5)
            try upstream.answer()
            try gateway.waitForMetrics("5 deliveries") { $0.delivered("up") == 5 }
        }
    }

    @Test("A profile that waits longer than max_age is dropped and not sent later")
    func maxAge() throws {
        try run(queue: "\"max_age\": \"4s\"") { gateway, upstream in
            try gateway.send(5, from: 2)
            let metrics = try gateway.waitForMetrics("5 drops for age") { $0.dropped("up", "max_age") == 5 }
            #expect(metrics.queued("up") == 2, "what is under way is not dropped")
            try upstream.answer()
            try gateway.waitForMetrics("2 deliveries") { $0.delivered("up") == 2 }
            #expect(upstream.texts == GatewayProcess.bodies(0..<2))
        }
    }

    @Test("A dead upstream's queue overflows into counted drops, and the log does not have a line for each")
    func deadUpstream() throws {
        try Scenario.run { scenario in
            let (dead, healthy) = (try Recorder(scenario), try Recorder(scenario))
            try dead.refuse()
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "dead": ReceiverEntry.writer(dead.url, more: "\"queue\": { \"max_profiles\": 20 },"),
                    "healthy": ReceiverEntry.writer(healthy.url),
                ])
            try gateway.send(500)
            let metrics = try gateway.waitForMetrics("500 deliveries") { $0.delivered("healthy") == 500 && $0.queued("dead") == 20 }
            #expect(metrics.dropped("dead", "queue_full") == 480)
            #expect(healthy.texts == GatewayProcess.bodies(0..<500))
            let lines = gateway.log.lines.filter { $0.contains("profiles dropped") }
            #expect((1...20).contains(lines.count))
        }
    }
}
