import Foundation
import Testing

@testable import TestSupport

@Suite("Upstream answers and delivery", .serialized)
struct UpstreamTests {
    /// Runs a test against a gateway with one upstream, which answers what the query of a profile says.
    private func run(more: String = ReceiverEntry.quickRetry, _ body: (GatewayProcess, Recorder) throws -> Void) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, more: more)])
            try body(gateway, upstream)
        }
    }

    @Test("A 2xx counts as delivered, after one request")
    func delivered() throws {
        try run { gateway, upstream in
            for status in [200, 201, 204] { try gateway.send(1, to: "/ingest?name=a&answer=\(status)") }
            let metrics = try gateway.waitForMetrics("3 deliveries") { $0.delivered("up") == 3 }
            #expect(upstream.requests.count == 3)
            #expect(metrics["pyroscope_write_sent_profiles_total{receiver=\"up\",endpoint=\"\(upstream.url)\"}"] == 3)
        }
    }

    @Test("400, 401, 403, 404, 413 and 422 are rejected at once, with the upstream's message in the log")
    func rejected() throws {
        try run { gateway, upstream in
            let statuses = [400, 401, 403, 404, 413, 422]
            for status in statuses {
                try gateway.send(1, to: "/ingest?name=a&answer=\(status)")
                try gateway.log.wait(for: "profile dropped", "receiver=up", "reason=rejected", "HTTP \(status): upstream says \(status)")
            }
            let metrics = try gateway.waitForMetrics("quiet") { $0.queued("up") == 0 }
            #expect(metrics.dropped("up", "rejected") == statuses.count)
            #expect(metrics.delivered("up") == 0)
            #expect(upstream.requests.count == statuses.count)
        }
    }

    @Test("408, 429, 500, 502, 503 and 504 are retried until they succeed")
    func retried() throws {
        try run { gateway, upstream in
            let statuses = [408, 429, 500, 502, 503, 504]
            for status in statuses { try gateway.send(1, to: "/ingest?name=a&answer=\(status),\(status),200") }
            try gateway.waitForMetrics("all deliveries") { $0.delivered("up") == statuses.count }
            for status in statuses { #expect(upstream.requests.count { $0.target.contains("=\(status),") } == 3) }
        }
    }

    @Test("A 429 for a message that is too large is rejected")
    func tooLargeForConnect() throws {
        try run { gateway, upstream in
            try upstream.answer(
                429, body: "{\"code\":\"resource_exhausted\",\"message\":\"message size 9 is larger than configured max 4\"}")
            try gateway.send(1)
            try gateway.log.wait(for: "profile dropped", "reason=rejected", "is larger than configured max")
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("Control characters in an upstream's message are escaped in the log")
    func controlCharacters() throws {
        try run { gateway, upstream in
            try upstream.answer(400, body: "bad\r\nmsg=\"forged\" \u{1B}[31mred")
            try gateway.send(1)
            try gateway.log.wait(for: "profile dropped", "forged")
            #expect(gateway.log.lines.allSatisfy { line in line.unicodeScalars.allSatisfy { $0.value >= 0x20 } })
        }
    }

    @Test("Retry-After of 429 and 503 delays only its own profile", arguments: [429, 503])
    func retryAfter(_ status: Int) throws {
        try run(more: "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"10ms\" },") { gateway, upstream in
            try gateway.send(1, to: "/ingest?name=patient&answer=\(status),200&retry_after=3600")
            try upstream.wait(count: 1)
            let statuses = String(repeating: "503,", count: 12)
            try gateway.send(1, to: "/ingest?name=hasty&answer=\(statuses)200")
            try gateway.waitForMetrics("the hasty delivery") { $0.delivered("up") == 1 }
            try upstream.wait(count: 14)
            #expect(upstream.requests.map { $0.target.contains("patient") } == [true] + Array(repeating: false, count: 13))
            // A reload tries everything at once.
            gateway.process.signal(SIGHUP)
            try gateway.waitForMetrics("both deliveries") { $0.delivered("up") == 2 }
            try upstream.wait(count: 15)
            #expect(upstream.requests.count == 15 && upstream.requests.last?.target.contains("patient") == true)
        }
    }

    @Test("With max_backoff_retries 2 a profile gets three attempts, and is then dropped and counted")
    func retriesExhausted() throws {
        let retry = "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"5ms\", \"max_backoff_retries\": 2 },"
        try run(more: retry) { gateway, upstream in
            try gateway.send(1, to: "/ingest?name=last&answer=500,500,200")
            try gateway.waitForMetrics("a delivery by the third attempt") { $0.delivered("up") == 1 }
            try gateway.send(1, to: "/ingest?name=never&answer=500")
            try gateway.log.wait(for: "profile dropped", "reason=retries_exhausted", "upstream says 500")
            let metrics = try gateway.waitForMetrics("quiet") { $0.queued("up") == 0 }
            #expect(metrics.dropped("up", "retries_exhausted") == 1)
            #expect(upstream.requests.count { $0.target.contains("never") } == 3)
        }
    }

    @Test("An attempt without an answer within remote_timeout is repeated")
    func remoteTimeout() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let endpoint = "{ \"url\": \"\(upstream.url)\", \"name\": \"slow\", \"remote_timeout\": \"500ms\" }"
            let gateway = try GatewayProcess(
                scenario,
                receivers: ["up": "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [\(endpoint)] }, \(ReceiverEntry.quickRetry)"])
            try gateway.send(1)
            try upstream.wait(count: 2)
            try upstream.answer()
            let metrics = try gateway.waitForMetrics("a delivery") { $0.delivered("up") == 1 }
            #expect(metrics["pyroscope_write_sent_profiles_total{receiver=\"up\",endpoint=\"slow\"}"] == 1)
        }
    }

    @Test("Headers of an endpoint override the sender's, and sequential profiles share a connection")
    func headersAndReuse() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let endpoint =
                "{ \"url\": \"\(upstream.url)\", \"headers\": { \"X-Scope-OrgID\": \"ours\", \"Authorization\": \"Bearer s3cret\" } }"
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [\(endpoint)] }"])
            let connection = try RawConnection(gateway.port)
            for number in 1...20 {
                #expect(try connection.post("/ingest?name=a", "a 1", headers: "X-Scope-OrgID: theirs\r\n").status == 200)
                try gateway.waitForMetrics("delivery \(number)") { $0.delivered("up") == number }
            }
            for request in upstream.requests {
                #expect(request.header("X-Scope-OrgID") == ["ours"])
                #expect(request.header("Authorization") == ["Bearer s3cret"])
                #expect(request.connection == 1)
            }
            try upstream.answer(401, body: "who are you")
            #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
            try gateway.log.wait(for: "profile dropped")
            #expect(gateway.log.lines.allSatisfy { !$0.contains("s3cret") }, "no secret reaches the log")
        }
    }

    @Test("Proxy variables of the environment are ignored")
    func proxyVariables() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"]), receivers: ["up": ReceiverEntry.writer(upstream.url)])
            let gateway = try GatewayProcess(
                scenario, config, environment: ["http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1", "no_proxy": ""])
            try gateway.send(1)
            try gateway.waitForMetrics("a delivery") { $0.delivered("up") == 1 }
        }
    }
}
