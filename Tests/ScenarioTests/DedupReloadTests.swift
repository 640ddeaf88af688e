import Testing

@testable import TestSupport

@Suite("Repeated requests with a reload in between", .serialized)
struct DedupReloadTests {
    private static let minute = "\"dedup_window\": \"1m\","

    /// A config with these listener members and one receiver.
    private static func config(_ upstream: Recorder, _ listener: String, receiver: String = ReceiverEntry.quickRetry, more: String = "")
        -> String
    {
        GatewayProcess.config(
            listeners: GatewayProcess.listener(["up"], more: listener),
            receivers: ["up": ReceiverEntry.endpoint(upstream.url, Dedup.patient, more: receiver)], more: more)
    }

    @Test("An accepted request is recognized after a reload, whatever the new window is", arguments: [Dedup.long, minute, Dedup.delivered])
    func known(next: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, Self.config(upstream, Dedup.long))
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "same").status == 200)
            try gateway.reload(Self.config(upstream, next), scenario)
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "same").status == 200)
            #expect(try Dedup.settle(gateway).deduplicated() == 1)
            #expect(upstream.texts == ["same": 1])
        }
    }

    @Test(
        "A repeat waits for the first request while that is open, also after a change of the window",
        arguments: [Dedup.delivered, minute + "\"ack\": \"delivered\","])
    func open(next: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, Self.config(upstream, Dedup.delivered, receiver: ReceiverEntry.quickRetry + "\"max_in_flight\": 4,"))
            try upstream.hold()
            let head = "POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nsame"
            let first = try RawConnection(gateway.port)
            first.send(head)
            try upstream.wait(count: 1)
            try gateway.reload(Self.config(upstream, next, receiver: ReceiverEntry.quickRetry + "\"max_in_flight\": 4,"), scenario)
            let second = try RawConnection(gateway.port)
            second.send(head)
            try gateway.waitForMetrics("its arrival") { $0["gateway_received_bytes_total{listener=\"default\"}"] == 8 }
            try upstream.answer()
            #expect(try first.readResponse().status == 200)
            #expect(try second.readResponse().status == 200)
            #expect(try Dedup.settle(gateway).deduplicated() == 1)
            #expect(upstream.texts == ["same": 1])
        }
    }

    @Test("With data_dir, a request accepted after a reload is recognized after the next start", arguments: ["", minute, Dedup.long])
    func noted(before: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, Self.config(upstream, before, more: SpoolMembers.members()))
            try gateway.reload(Self.config(upstream, Dedup.long, more: SpoolMembers.members()), scenario)
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "same").status == 200)
            try Dedup.settle(gateway)
            try gateway.kill()
            let next = try GatewayProcess(scenario, Self.config(upstream, Dedup.long, more: SpoolMembers.members()))
            #expect(try RawConnection(next.port).post("/ingest?name=app", "same").status == 200)
            let metrics = try Dedup.settle(next)
            #expect(metrics.deduplicated() == 1 && metrics.accepted("up") == 0)
            // A delivery just before the kill may not be on record, and then happens again.
            #expect(upstream.texts == ["same": 1 + metrics.recovered("up")])
        }
    }
}
