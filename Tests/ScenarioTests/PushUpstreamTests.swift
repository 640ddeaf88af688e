import Testing

@testable import TestSupport

@Suite("Upstream answers to a Push are judged by status first and Connect code second", .serialized)
struct PushUpstreamTests {
    /// The body of a Connect error.
    private static func error(_ code: String, _ message: String = "no") -> String { "{\"code\":\"\(code)\",\"message\":\"\(message)\"}" }

    static let rejected: [(Int, String)] = [
        (400, error("invalid_argument")), (400, error("unavailable")), (400, "<html>"), (401, error("unauthenticated")), (403, ""),
        (404, error("not_found")), (404, "<html>"), (413, "<html>413 Request Entity Too Large</html>"), (422, error("unknown")),
        (409, error("already_exists")), (409, "<html>"), (501, error("unimplemented")),
        (429, error("resource_exhausted", "message size 9 is larger than configured max 4")),
        (429, error("resource_exhausted", "message is larger than configured max 4")),
    ]

    static let retried: [(Int, String)] = [
        (429, error("resource_exhausted", "too fast")), (429, "<html>"), (408, error("deadline_exceeded")), (409, error("aborted")),
        (499, error("canceled")), (500, error("internal")), (500, error("unknown")), (501, "<html>"), (502, "<html>"),
        (503, error("unavailable")), (503, error("invalid_argument")), (504, ""), (500, "{\"code\":"), (520, ""),
    ]

    /// Runs a test against a gateway with one upstream.
    private func run(_ body: (GatewayProcess, Recorder) throws -> Void) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let entry = ReceiverEntry.writer(upstream.url, more: ReceiverEntry.quickRetry)
            try body(try GatewayProcess(scenario, receivers: ["up": entry]), upstream)
        }
    }

    @Test("A permanent failure is dropped after one attempt")
    func rejected() throws {
        try run { gateway, upstream in
            for (number, (status, body)) in Self.rejected.enumerated() {
                try upstream.answer(status, body: body)
                #expect(try gateway.push(.numbered(number)).status == 200)
                try gateway.waitForMetrics("\(status) \(body) to be the end") { $0.queued("up") == 0 }
                #expect(try gateway.metrics().dropped("up", "rejected") == number + 1, "\(status) \(body)")
            }
            #expect(try upstream.wait(count: Self.rejected.count).count == Self.rejected.count)
        }
    }

    @Test("A transient failure is retried until the delivery succeeds")
    func retried() throws {
        try run { gateway, upstream in
            for (number, (status, body)) in Self.retried.enumerated() {
                try upstream.answer(status, body: body)
                let before = try gateway.metrics()["gateway_retries_total{receiver=\"up\"}"]
                #expect(try gateway.push(.numbered(number)).status == 200)
                try gateway.waitForMetrics("\(status) \(body) to be retried") {
                    $0["gateway_retries_total{receiver=\"up\"}"] > before || $0.dropped("up") > 0
                }
                try upstream.answer()
                try gateway.waitForMetrics("the queue to be empty") { $0.queued("up") == 0 }
                #expect(try gateway.metrics().delivered("up") == number + 1, "\(status) \(body)")
            }
        }
    }
}
