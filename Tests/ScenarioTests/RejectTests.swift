import Testing

@testable import TestSupport

/// With `on_full: reject`, a full required receiver refuses the request before any receiver has it.
@Suite("Full queues that reject", .serialized)
struct RejectTests {
    /// A receiver with room for this many profiles, one delivery at a time.
    private static func entry(_ upstream: Recorder, _ count: Int, onFull: String = "reject", more: String = "") -> String {
        let queue = "\"queue\": { \"max_profiles\": \(count), \"on_full\": \"\(onFull)\" },"
        return ReceiverEntry.writer(upstream.url, more: "\"max_in_flight\": 1, \(queue) \(more)")
    }

    /// Runs a test against a gateway whose receiver `a` has a silent destination, and whose `others` deliver.
    private func run(
        _ makeEntry: (Recorder) -> String, others: [String: (Recorder) -> String] = ["b": { ReceiverEntry.writer($0.url) }],
        _ body: (GatewayProcess, Recorder, [String: Recorder]) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let silent = try Recorder(scenario)
            try silent.hold()
            let recorders = try others.mapValues { _ in try Recorder(scenario) }
            var receivers = ["a": makeEntry(silent)]
            for (name, make) in others { receivers[name] = recorders[name].map(make) }
            try body(try GatewayProcess(scenario, receivers: receivers), silent, recorders)
        }
    }

    /// Checks that an answer is the 503 of a full queue.
    private static func checkRefused(_ answer: RawConnection.Response) {
        #expect(answer.status == 503)
        #expect(answer.code == "unavailable")
        #expect(answer.header("Retry-After") != nil)
        #expect(answer.message == "the queue of receiver \"a\" is full")
    }

    @Test("A full queue answers 503 and no receiver has the profile, until there is room", arguments: DeliveredTests.API.allCases)
    func full(api: DeliveredTests.API) throws {
        try run({ Self.entry($0, 2) }) { gateway, silent, others in
            let healthy = try #require(others["b"])
            let connection = try RawConnection(gateway.port)
            for number in 1...2 { #expect(try api.send(connection, number).status == 200) }
            for number in 3...10 { Self.checkRefused(try api.send(connection, number)) }
            let metrics = try gateway.waitForMetrics("what was accepted") { $0.delivered("b") == 2 }
            #expect(metrics.accepted("a") == 2 && metrics.accepted("b") == 2)
            #expect(metrics.dropped("a") == 0 && metrics.dropped("b") == 0)
            try silent.answer()
            try gateway.waitForMetrics("room") { $0.queued("a") == 0 }
            #expect(try api.send(connection, 11).status == 200)
            try gateway.waitForMetrics("all of it") { $0.delivered("a") == 3 && $0.delivered("b") == 3 }
            #expect(try healthy.wait(count: 3).count == 3, "not one of those that were turned away")
            #expect(try silent.wait(count: 3).count == 3)
        }
    }

    @Test("max_bytes is enforced like max_profiles")
    func fullOfBytes() throws {
        let queue = "\"queue\": { \"max_bytes\": \"64KiB\", \"on_full\": \"reject\" },"
        try run({ ReceiverEntry.writer($0.url, more: queue) }) { gateway, _, others in
            let connection = try RawConnection(gateway.port)
            let body = String(repeating: "x", count: 30 * 1024)
            for _ in 1...2 { #expect(try connection.post("/ingest?name=a", body).status == 200) }
            Self.checkRefused(try connection.post("/ingest?name=a", body))
            #expect(try connection.post("/ingest?name=a", "x").status == 200, "a small one still fits")
            try gateway.waitForMetrics("three") { $0.delivered("b") == 3 && $0.accepted("a") == 3 }
        }
    }

    @Test("A Push is accepted only if there is room for all its series", arguments: [(1, true), (2, true), (3, false)])
    func allOrNothing(seriesCount: Int, fits: Bool) throws {
        try run({ Self.entry($0, 4) }) { gateway, _, others in
            let healthy = try #require(others["b"])
            #expect(try gateway.push(.numbered(1), .numbered(2)).status == 200)
            let connection = try RawConnection(gateway.port)
            let answer = try connection.push((0..<seriesCount).map { .numbered(10 + $0) })
            if fits { #expect(answer.status == 200) } else { Self.checkRefused(answer) }
            let count = 2 + (fits ? seriesCount : 0)
            try gateway.waitForMetrics("\(count) profiles") { $0.accepted("a") == count && $0.delivered("b") == count }
            #expect(try healthy.wait(count: count).count == count)
        }
    }

    @Test("A queue with drop_oldest drops nothing for a request that another queue refuses")
    func mixed() throws {
        try run({ Self.entry($0, 4) }, others: ["b": { Self.entry($0, 2, onFull: "drop_oldest") }]) { gateway, _, others in
            try #require(others["b"]).hold()
            try gateway.send(4)
            #expect(try gateway.metrics().dropped("b", "queue_full") == 2)
            Self.checkRefused(try gateway.push(.numbered(1)))
            let metrics = try gateway.metrics()
            #expect(metrics.dropped("b", "queue_full") == 2)
            #expect(metrics.accepted("b") == 4)
        }
    }

    @Test("A full queue of a receiver that is not required drops and counts, and refuses no sender", arguments: DeliveredTests.API.allCases)
    func notRequired(api: DeliveredTests.API) throws {
        try run({ Self.entry($0, 2, more: "\"required\": false,") }) { gateway, _, _ in
            let connection = try RawConnection(gateway.port)
            for number in 1...5 { #expect(try api.send(connection, number).status == 200) }
            let metrics = try gateway.waitForMetrics("five") { $0.delivered("b") == 5 }
            #expect(metrics.dropped("a", "queue_full") == 3)
            #expect(metrics.queued("a") == 2)
        }
    }

    @Test("Concurrent senders fill the queue exactly, and each 200 is one profile")
    func race() throws {
        try run({ Self.entry($0, 50) }) { gateway, _, others in
            let connections = try (0..<8).map { _ in try RawConnection(gateway.port) }
            for (index, connection) in connections.enumerated() {
                for number in 0..<20 { try DeliveredTests.API.push.begin(connection, 100 * index + number) }
            }
            let statuses = try connections.flatMap { connection in try (0..<20).map { _ in try connection.readResponse().status } }
            #expect(statuses.count { $0 == 200 } == 50)
            #expect(statuses.count { $0 == 503 } == 110)
            try gateway.waitForMetrics("50 profiles") { $0.accepted("a") == 50 && $0.delivered("b") == 50 }
            let samples = try #require(others["b"]).wait(count: 50).flatMap { try $0.series }.flatMap(\.texts)
            #expect(Set(samples).count == 50)
        }
    }
}
