import Testing

@testable import TestSupport

@Suite("Receivers with several loops", .serialized)
struct WriterLoopsTests {
    private func entry(_ upstream: Recorder, loops: Int, more: String = "") -> String {
        ReceiverEntry.endpoint(upstream.url, more: ReceiverEntry.quickRetry + more, config: "\"loops\": \(loops)")
    }

    @Test("A receiver has as many threads as loops, which deliver every profile once", arguments: ["none", "process"])
    func threads(isolation: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, loops: 3, more: "\"isolation\": \"\(isolation)\","))
            try gateway.send(100)
            try gateway.waitForDeliveries(100)
            #expect(upstream.requests.count == 100)
            try gateway.process.waitForThreads(3, named: "pyroscope.write", inChildren: isolation == "process")
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A reload changes the number of loops, and no profile is lost or sent twice")
    func reload() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, loops: 2))
            try gateway.send(50)
            try gateway.process.waitForThreads(2, named: "pyroscope.write")
            try gateway.reload(receivers: ["up": entry(upstream, loops: 5)], scenario)
            try gateway.send(50, from: 50)
            try gateway.waitForDeliveries(100)
            try gateway.process.waitForThreads(5, named: "pyroscope.write")
            // One loop runs on the thread of the gateway.
            try gateway.reload(receivers: ["up": entry(upstream, loops: 1)], scenario)
            try gateway.send(50, from: 100)
            try gateway.waitForDeliveries(150)
            try gateway.process.waitForThreads(0, named: "pyroscope.write")
            #expect(upstream.requests.count == 150)
        }
    }

    @Test("A check with --connect asks an endpoint once")
    func probe() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry(upstream, loops: 4)])
            let file = try scenario.write("{ \(config) }", to: "gateway.json")
            let check = try scenario.start([try Project.builtGateway(), "check", "--config", file, "--connect"])
            #expect(try check.waitForExit() == 0, "\(check.output.lines)")
            #expect(upstream.requests.count == 1)
        }
    }
}
