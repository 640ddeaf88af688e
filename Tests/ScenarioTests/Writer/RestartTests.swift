import Testing

@Suite("An upstream that is killed and started again", .serialized)
struct RestartTests {
    @Test("Both have every profile in the end, and the one that stayed has each once", arguments: [true, false])
    func killed(asReceivers: Bool) throws {
        try Scenario.run { scenario in
            let (first, healthy) = (try Recorder(scenario), try Recorder(scenario))
            let receivers =
                asReceivers
                ? ["a": ReceiverEntry.endpoint(first.url), "b": ReceiverEntry.endpoint(healthy.url)]
                : ["both": ReceiverEntry.writer(first.url, healthy.url, more: ReceiverEntry.quickRetry)]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            try gateway.send(200)
            // In the middle of what it is sent: some have come and some are on their way, unanswered.
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
}
