import Testing

@testable import TestSupport

@Suite("Upstreams and gateways that are killed and restarted", .serialized)
struct RestartTests {
    @Test("A killed and restarted upstream gets every profile, and the one that stayed gets each once", arguments: [true, false])
    func killed(asReceivers: Bool) throws {
        try Scenario.run { scenario in
            let (first, healthy) = (try Recorder(scenario), try Recorder(scenario))
            let receivers =
                asReceivers
                ? ["a": ReceiverEntry.endpoint(first.url), "b": ReceiverEntry.endpoint(healthy.url)]
                : ["both": ReceiverEntry.writer(first.url, healthy.url, more: ReceiverEntry.quickRetry)]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            try gateway.send(200)
            // Some profiles have arrived then, and others are open without an answer.
            try first.wait(count: 100)
            first.kill()
            try gateway.send(300, from: 200)
            try healthy.wait(count: 500)
            let second = try Recorder(scenario, port: first.port)
            try gateway.send(200, from: 500)
            try gateway.waitForMetrics("700 deliveries everywhere") { metrics in
                metrics.receivers.allSatisfy { metrics.delivered($0) == 700 }
            }
            #expect(healthy.texts == GatewayProcess.bodies(0..<700))
            let texts = Set(first.texts.keys).union(second.texts.keys)
            #expect(texts == Set(GatewayProcess.bodies(0..<700).keys))
        }
    }

    @Test("After kill -9 of the gateway, an endpoint that refused a profile does not get it again")
    func refusalOutlivesGateway() throws {
        try Scenario.run { scenario in
            let (refusing, absent) = (try Recorder(scenario), try Recorder(scenario))
            try refusing.answer(400, body: "too old")
            try absent.answer(503)
            let receivers = ["both": ReceiverEntry.writer(refusing.url, absent.url, more: ReceiverEntry.quickRetry)]
            let first = try GatewayProcess(scenario, receivers: receivers, more: SpoolMembers.members())
            try first.send(1)
            // Notes are written in order, so once the next one is on disk, that of the first attempt is too.
            let size = try first.waitForMetrics("a retry") { $0["gateway_retries_total{receiver=\"both\"}"] >= 1 }.spoolBytes
            try first.waitForMetrics("a note") { $0.spoolBytes > size }
            try first.kill()
            let asked = absent.requests.count
            let second = try first.again()
            try absent.wait(count: asked + 1)
            try absent.answer(200)
            let metrics = try second.waitForMetrics("its end") { $0.queued("both") == 0 }
            #expect((metrics.recovered("both"), metrics.delivered("both"), metrics.deadLettered("both")) == (1, 0, 1))
            #expect(refusing.requests.count == 1)
            try second.log.wait(for: "endpoint \(refusing.url) refused the profile earlier")
        }
    }
}
