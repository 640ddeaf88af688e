import Testing

@testable import TestSupport

@Suite("Isolation between receivers", .serialized)
struct IsolationTests {
    @Test("A refusing and a silent upstream affect no sender and no other receiver, and get everything later")
    func deadUpstreams() throws {
        try Scenario.run { scenario in
            let (refusing, silent, healthy) = (try Recorder(scenario), try Recorder(scenario), try Recorder(scenario))
            try refusing.refuse()
            try silent.hold()
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "a-refusing": ReceiverEntry.writer(refusing.url, more: ReceiverEntry.quickRetry),
                    "b-silent": ReceiverEntry.writer(silent.url, more: ReceiverEntry.quickRetry),
                    "c-healthy": ReceiverEntry.writer(healthy.url),
                    "d-archive": ReceiverEntry.archive(),
                ])
            try gateway.send(1000)
            let metrics = try gateway.waitForMetrics("1000 deliveries to the living") {
                $0.delivered("c-healthy") == 1000 && $0.delivered("d-archive") == 1000
            }
            #expect(healthy.texts == GatewayProcess.bodies(0..<1000))
            let archived = scenario.files(under: "archive")
            #expect(archived.count == 2000)
            #expect(Set(try archived.filter { $0.hasSuffix(".folded") }.map { try scenario.bytes(of: "archive/\($0)") }).count == 1000)
            for dead in ["a-refusing", "b-silent"] {
                #expect(metrics.queued(dead) == 1000)
                #expect(metrics.delivered(dead) == 0)
                #expect(metrics.dropped(dead) == 0)
            }
            for living in ["c-healthy", "d-archive"] { #expect(metrics.queued(living) == 0) }

            try refusing.listen()
            try silent.answer()
            try gateway.waitForMetrics("1000 deliveries to those that came back") {
                $0.delivered("a-refusing") == 1000 && $0.delivered("b-silent") == 1000
            }
            let all = Set(GatewayProcess.bodies(0..<1000).keys)
            #expect(Set(refusing.texts.keys) == all)
            #expect(Set(silent.texts.keys) == all)
            #expect(healthy.texts == GatewayProcess.bodies(0..<1000), "nobody was sent anything twice for another's sake")
        }
    }

    @Test("The log says why a receiver fails, and that it has recovered")
    func failingAndRecovered() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.answer(500, body: "out of paper")
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, more: ReceiverEntry.quickRetry)])
            try gateway.send(10)
            let line = try gateway.log.wait(for: "receiver is failing")
            #expect(line.contains("out of paper"))
            try gateway.waitForMetrics("a failed receiver") { $0.health("up") == 2 }
            try upstream.answer()
            try gateway.log.wait(for: "receiver has recovered")
            try gateway.waitForMetrics("10 deliveries and health") { $0.delivered("up") == 10 && $0.health("up") == 0 }
        }
    }

    // MARK: Several endpoints in one receiver

    @Test("With a dead endpoint, the other gets each profile once, and the dead one gets all when it is back")
    func deadEndpoint() throws {
        try Scenario.run { scenario in
            let (dead, healthy) = (try Recorder(scenario), try Recorder(scenario))
            try dead.refuse()
            let gateway = try GatewayProcess(
                scenario, receivers: ["both": ReceiverEntry.writer(dead.url, healthy.url, more: ReceiverEntry.quickRetry)])
            try gateway.send(200)
            try healthy.wait(count: 200)
            #expect(try gateway.metrics().delivered("both") == 0)
            try dead.listen()
            try gateway.waitForMetrics("200 deliveries") { $0.delivered("both") == 200 }
            #expect(healthy.texts == GatewayProcess.bodies(0..<200))
            #expect(Set(dead.texts.keys) == Set(GatewayProcess.bodies(0..<200).keys))
        }
    }

    @Test("An endpoint that stays dead does not block new profiles for the other endpoint")
    func deadEndpointDoesNotHoldSlots() throws {
        try Scenario.run { scenario in
            let (dead, healthy) = (try Recorder(scenario), try Recorder(scenario))
            try dead.refuse()
            // The default retry clock is so slow that an endpoint waiting for it would not be served.
            let gateway = try GatewayProcess(scenario, receivers: ["both": ReceiverEntry.writer(dead.url, healthy.url)])
            try gateway.send(40)
            try healthy.wait(count: 40)
            try gateway.waitForMetrics("retries of what the sibling has") {
                $0["gateway_retries_total{receiver=\"both\"}"] >= 46
            }
            try gateway.send(40, from: 40)
            try healthy.wait(count: 80)
            #expect(healthy.texts == GatewayProcess.bodies(0..<80))
        }
    }
}
