import Foundation
import Testing

@testable import TestSupport

@Suite("Profiles that an upstream always refuses", .serialized)
struct PoisonTests {
    /// A configuration of the receiver.
    struct Way: Sendable, CustomTestStringConvertible {
        let isOnDisk: Bool
        let endpoints: Int
        let batches: Bool
        /// The status of the refusals.
        var status: Int { isOnDisk ? batches ? 502 : 500 : 503 }
        var testDescription: String { "\(isOnDisk ? "disk" : "memory"), \(endpoints) endpoints\(batches ? ", batches" : "")" }

        static let all = [true, false].flatMap { isOnDisk in
            [1, 2].flatMap { endpoints in [false, true].map { Way(isOnDisk: isOnDisk, endpoints: endpoints, batches: $0) } }
        }
    }

    /// Runs a test against a gateway whose upstreams refuse bodies that contain `poison`.
    private func run(
        _ way: Way, ack: String = "queued", _ body: (GatewayProcess, [Recorder]) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstreams = try (0..<way.endpoints).map { _ in try Recorder(scenario) }
            for upstream in upstreams { try upstream.reject("poison", way.status) }
            let urls = upstreams.map { "{ \"url\": \"\($0.url)\" }" }.joined(separator: ", ")
            let entry = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [\(urls)], \(way.batches ? "\"batch\": {}" : "") }"
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: GatewayProcess.listener(["up"], more: "\"ack\": \"\(ack)\","), receivers: ["up": entry],
                    more: way.isOnDisk ? "\"data_dir\": \"\(scenario.path("data"))\"," : ""))
            try body(gateway, upstreams)
        }
    }

    /// Sends a Push of one series with this text, and returns the status.
    private func push(_ text: String, to gateway: GatewayProcess) throws -> Int {
        try gateway.push(PushSeries(["service_name": text], samples: ["": text])).status
    }

    @Test("Good profiles pass many refused ones", arguments: Way.all)
    func others(_ way: Way) throws {
        try run(way) { gateway, upstreams in
            for _ in 0..<30 { #expect(try push("poison", to: gateway) == 200) }
            try upstreams[0].wait(for: "a refusal") { $0.count > 0 }
            // A steady sender sends these; without a bound on the refused ones, none would pass for minutes.
            var sent = 0
            let metrics = try gateway.waitForMetrics("every good one of a steady sender") { metrics in
                if sent >= 12, metrics.delivered("up") == sent { return true }
                if (try? push("good\(sent)", to: gateway)) == 200 { sent += 1 }
                return false
            }
            #expect(metrics.queued("up") == 30 && metrics.dropped("up") == 0)
        }
    }

    @Test("A sender that waits for a good profile gets 200")
    func delivered() throws {
        try run(Way(isOnDisk: true, endpoints: 1, batches: false), ack: "delivered") { gateway, upstreams in
            let waiting = try (0..<8).map { number in
                let sender = try RawConnection(gateway.port)
                sender.send("POST /ingest?name=poison-\(number) HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                return sender
            }
            try upstreams[0].wait(count: 8)
            for number in 0..<6 { #expect(try RawConnection(gateway.port).post("/ingest?name=good-\(number)", "a 1").status == 200) }
            withExtendedLifetime(waiting) {}
        }
    }

    @Test("A profile that is refused repeatedly while others pass becomes a dead letter with the upstream's message")
    func rejected() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.reject("poison", 500)
            let retry =
                "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"5ms\", \"reject_after_refusals\": 4, \"reject_after_period\": \"1ms\" },"
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, more: retry)],
                more: "\"data_dir\": \"\(scenario.path("data"))\",")
            try gateway.send(1, to: "/ingest?name=poison")
            var sent = 0
            while try gateway.metrics().deadLettered("up") == 0 {
                try gateway.send(1, to: "/ingest?name=good")
                sent += 1
                try gateway.waitForMetrics("a good one") { $0.delivered("up") == sent }
            }
            let line = try gateway.log.wait(for: "profile put with the dead letters", "reason=rejected")
            #expect(line.contains("refused 4 times in 0 minutes while other profiles were delivered"))
            #expect(sent >= 3)
        }
    }

    @Test("A reload retries at once what waits for a Retry-After, which max_retry_after limits")
    func retryAfter() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.answer(503, headers: [["Retry-After", "3600"]])
            let receivers = [
                "long": ReceiverEntry.writer("\(upstream.url)/long"),
                "short": ReceiverEntry.writer("\(upstream.url)/short", more: "\"retry\": { \"max_retry_after\": \"1ms\" },"),
            ]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            try gateway.send(2)
            _ = try upstream.wait(for: "two requests of each") { requests in
                ["/long/", "/short/"].allSatisfy { path in requests.count { $0.target.hasPrefix(path) } >= 2 }
            }
            try upstream.answer()
            try gateway.waitForMetrics("what waits for a bound of its own") { $0.delivered("short") == 2 }
            #expect(try gateway.metrics().delivered("long") == 0)
            #expect(try gateway.postReload().status == 200)
            try gateway.waitForMetrics("what waited for the hour") { $0.delivered("long") == 2 }
        }
    }
}
