import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Reloading receivers", .serialized)
struct ReloadReceiverTests {
    @Test("After an endpoint changes, the new one gets all but open deliveries, and no profile is lost or doubled")
    func changedEndpoint() throws {
        try Scenario.run { scenario in
            let (old, new) = (try Recorder(scenario), try Recorder(scenario))
            try old.hold()
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(old.url, more: "\"max_in_flight\": 2,")])
            try gateway.send(5)
            try old.wait(count: 2)
            try gateway.reload(receivers: ["up": ReceiverEntry.writer(new.url, more: "\"max_in_flight\": 2,")], scenario)
            try gateway.send(5, from: 5)
            try new.wait(count: 8)
            try gateway.waitForMetrics("what is held, on the same queue") { $0.queued("up") == 2 && $0.delivered("up") == 8 }
            try old.answer()
            try gateway.waitForMetrics("everything, on the same account") { $0.delivered("up") == 10 && $0.queued("up") == 0 }
            #expect(old.texts == GatewayProcess.bodies(0..<2))
            #expect(new.texts == GatewayProcess.bodies(2..<10))
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A failing endpoint that changes is tried at once, and the delivery state of its profiles is reset")
    func repaired() throws {
        try Scenario.run { scenario in
            let (dead, other, new) = (try Recorder(scenario), try Recorder(scenario), try Recorder(scenario))
            try dead.answer(500)
            let retry = "\"retry\": { \"min_backoff_period\": \"1h\", \"max_backoff_period\": \"1h\" },"
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(dead.url, other.url, more: retry)])
            try gateway.send(3)
            try gateway.waitForMetrics("retries") { $0.retries() == 3 }
            #expect(other.texts == GatewayProcess.bodies(0..<3))
            try gateway.reload(receivers: ["up": ReceiverEntry.writer(new.url, other.url, more: retry)], scenario)
            try gateway.waitForMetrics("deliveries") { $0.delivered("up") == 3 && $0.health("up") == 0 }
            #expect(new.texts == GatewayProcess.bodies(0..<3))
            #expect(other.texts.values.allSatisfy { $0 == 2 })
        }
    }

    @Test("Queue settings change without a new plugin instance, and a smaller queue evicts at once")
    func rules() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            func entry(_ more: String) -> [String: String] { ["up": ReceiverEntry.writer(upstream.url, more: more)] }
            let gateway = try GatewayProcess(scenario, receivers: entry("\"max_in_flight\": 1,"))
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try upstream.hold()
            try gateway.send(6, from: 1)
            try upstream.wait(count: 2)
            try gateway.reload(receivers: entry("\"max_in_flight\": 1, \"queue\": { \"max_profiles\": 3 },"), scenario)
            try gateway.waitForMetrics("evictions") { $0.queued("up") == 3 && $0.dropped("up", "queue_full") == 3 }
            try gateway.reload(receivers: entry("\"max_in_flight\": 3, \"queue\": { \"max_profiles\": 3 },"), scenario)
            try upstream.wait(count: 4)
            #expect(Set(upstream.requests.prefix(2).map(\.connection)).count == 1)
            try upstream.answer()
            try gateway.waitForDeliveries(4)
            #expect(!gateway.log.lines.contains { $0.contains("abort") })
        }
    }

    @Test("An added receiver gets profiles from then on, and a removed one delivers its queue before it ends")
    func addedAndRemoved() throws {
        try Scenario.run { scenario in
            let (up, added) = (try Recorder(scenario), try Recorder(scenario))
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(up.url)])
            try gateway.send(2)
            try gateway.waitForDeliveries(2)
            try up.hold()
            try gateway.send(2, from: 2)
            try up.wait(count: 4)
            try gateway.reload(receivers: ["added": ReceiverEntry.writer(added.url)], scenario)
            try gateway.send(2, from: 4)
            try gateway.waitForMetrics("two ways") { $0.delivered("added") == 2 && $0.queued("up") == 2 }
            try up.answer()
            try gateway.waitForMetrics("the end of the removed one") { $0.receivers == ["added"] }
            try gateway.log.wait(for: "receiver removed", "receiver=up")
            #expect(up.texts == GatewayProcess.bodies(0..<4))
            #expect(added.texts == GatewayProcess.bodies(4..<6))
            #expect(!gateway.log.lines.contains { $0.contains("lost") })
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A receiver that is added again while its predecessor drains is separate, and both deliver")
    func addedAgain() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let (up, console) = (["up": ReceiverEntry.writer(upstream.url)], ["console": ReceiverEntry.console()])
            let gateway = try GatewayProcess(scenario, receivers: up)
            try gateway.send(2)
            try upstream.wait(count: 2)
            try gateway.reload(receivers: console, scenario)
            try gateway.reload(receivers: up, scenario)
            try gateway.send(2, from: 2)
            try upstream.wait(count: 4)
            try upstream.answer()
            try gateway.log.wait(for: "receiver removed", "receiver=up")
            try gateway.waitForMetrics("an account of its own") { $0.accepted("up") == 2 && $0.delivered("up") == 2 }
            #expect(upstream.texts == GatewayProcess.bodies(0..<4))
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("Profiles that a removed receiver cannot deliver in time are logged as lost, and a waiting sender gets 503")
    func removedAndDead() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let gateway = try GatewayProcess(scenario, delivering: ["up": ReceiverEntry.writer(upstream.url)])
            let sender = try RawConnection(gateway.port)
            sender.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1")
            try upstream.wait(count: 1)
            try gateway.reload(receivers: ["console": ReceiverEntry.console()], more: "\"shutdown_timeout\": \"200ms\",", scenario)
            #expect(try sender.readResponse().status == 503)
            try gateway.log.wait(for: "profiles of a removed receiver lost", "receiver=up", "count=1")
            try gateway.send(1)
            try gateway.waitForMetrics("a gateway that goes on") { $0.receivers == ["console"] && $0.delivered("console") == 1 }
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("Counters of the same plugin continue, also for an endpoint that returns, and those of another plugin vanish")
    func counters() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            func entry(_ name: String) -> [String: String] {
                ["up": ReceiverEntry.endpoint(upstream.url, "\"headers\": { \"x\": \"\(name)\" },")]
            }
            let gateway = try GatewayProcess(scenario, receivers: entry("a"))
            for (count, name) in [(1, "a"), (2, "b"), (3, "a")] {
                if count > 1 { try gateway.reload(receivers: entry(name), scenario) }
                try gateway.send(1)
                try gateway.waitForDeliveries(count)
                let page = try gateway.metrics()
                #expect(page["pyroscope_write_sent_profiles_total{receiver=\"up\",endpoint=\"up\"}"] == count, "\(page.lines)")
            }
            try gateway.reload(receivers: ["up": ReceiverEntry.console()], scenario)
            #expect(!(try gateway.metrics().lines.contains { $0.hasPrefix("pyroscope_write") }))
        }
    }

    @Test("A replaced plugin file is logged, and not loaded beside the running one")
    func replacedFile() throws {
        try Scenario.run { scenario in
            let library = scenario.path("libmine.so")
            try FileManager.default.copyItem(atPath: "\(Project.build)/libStdoutSink.so", toPath: library)
            func entry(_ format: String) -> [String: String] {
                ["mine": "\"plugin\": \"\(library)\", \"config\": { \"format\": \"\(format)\" }"]
            }
            let gateway = try GatewayProcess(scenario, receivers: entry("text"))
            try scenario.replace("libmine.so", text: "no library at all")
            try gateway.reload(receivers: entry("json"), scenario)
            try gateway.log.wait(for: "a restart loads it", "receiver=mine")
            try gateway.send(1)
            try gateway.process.output.wait(for: "{")
            #expect(try gateway.stop() == 0)
        }
    }

    // MARK: Plugins that do not end

    /// Builds the misbehaving plugin and returns its path.
    private func odd(_ scenario: Scenario) throws -> String {
        let library = scenario.path("libodd.so")
        let compiler = try scenario.start([
            "gcc", "-shared", "-fPIC", "-pthread", "-I", "\(Project.root)/Sources/PluginABI/include",
            "\(Project.pluginSources)/misbehaving.c", "-o", library,
        ])
        #expect(try compiler.waitForExit() == 0, "\(compiler.errors.lines)")
        return library
    }

    @Test(
        "An old instance that takes too long is aborted, and the new one delivers its profiles",
        arguments: [("finish in abort", true), ("block until abort", true), ("never finish", false), ("block without end", false)])
    func stuck(_ what: String, ends: Bool) throws {
        try Scenario.run { scenario in
            let library = try odd(scenario)
            func entry(_ what: String) -> [String: String] {
                ["odd": "\"plugin\": \"\(library)\", \"config\": { \"do\": \"\(what)\" }, \(ReceiverEntry.quickRetry)"]
            }
            let timeout = "\"shutdown_timeout\": \"200ms\","
            let gateway = try GatewayProcess(scenario, receivers: entry(what), more: timeout)
            try gateway.send(1)
            try gateway.log.poll(for: "an open delivery") {
                try gateway.page("/api/v1/status").text.contains("\"open_deliveries\":1") ? true : nil
            }
            try gateway.reload(receivers: entry("nothing odd"), more: timeout, scenario)
            try gateway.send(1, from: 1)
            try gateway.log.wait(for: "abort called")
            try gateway.waitForMetrics("both deliveries") { $0.delivered("odd") == 2 && $0.queued("odd") == 0 }
            if ends { try gateway.log.wait(for: "destroy called") } else { try gateway.log.wait(for: "did not end after abort") }
            #expect(try gateway.stop() == (ends ? 0 : 1))
            let destroyed = gateway.log.lines.count { $0.contains("destroy called") }
            #expect(destroyed == (ends ? 2 : 1))
        }
    }

    @Test("SIGTERM also ends an old instance that is still draining")
    func shutdownMeanwhile() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(upstream.url)])
            try gateway.send(1)
            try upstream.wait(count: 1)
            let timeout = "\"shutdown_timeout\": \"1s\","
            try gateway.reload(
                receivers: ["up": ReceiverEntry.writer(upstream.url, config: "\"external_labels\": { \"a\": \"b\" }")], more: timeout,
                scenario)
            try gateway.reload(receivers: ["console": ReceiverEntry.console()], more: timeout, scenario)
            #expect(try gateway.stop() == 0)
            #expect(gateway.log.lines.contains { $0.contains("receiver=up") && $0.contains("count=1") })
        }
    }
}
