import Foundation
import Testing

@testable import TestSupport

@Suite("Batches of profiles in one Push", .serialized)
struct BatchTests {
    private func entry(_ upstream: Recorder, _ batch: String) -> String {
        ReceiverEntry.endpoint(upstream.url, config: batch.isEmpty ? "" : "\"batch\": { \(batch) }")
    }

    private func push(_ gateway: GatewayProcess, _ count: Int) throws { try push(gateway, 0..<count) }

    /// Sends all profiles in one Push, which the gateway splits into series.
    private func push(_ gateway: GatewayProcess, _ numbers: Range<Int>) throws {
        let connection = try RawConnection(gateway.port)
        #expect(try connection.push(numbers.map { .numbered($0) }).status == 200)
    }

    /// The series of each request.
    private func series(_ upstream: Recorder) throws -> [[PushSeries]] {
        try upstream.requests.map { try $0.series }
    }

    @Test(
        "Series share a request up to max_profiles, and each arrives once",
        arguments: [("", 1), ("\"max_profiles\": 4", 4), ("\"max_profiles\": 1", 1)])
    func profiles(batch: String, most: Int) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, batch))
            try push(gateway, 200)
            try gateway.waitForDeliveries(200)
            let requests = try series(upstream)
            #expect(requests.map(\.count).max() == most)
            let all = requests.flatMap { $0 }
            #expect(all.count == 200)
            #expect(Set(all) == Set((0..<200).map { .numbered($0) }))
            let metrics = try gateway.metrics()
            #expect(metrics["pyroscope_write_sent_profiles_total{receiver=\"up\",endpoint=\"up\"}"] == 200)
        }
    }

    @Test("max_bytes limits a request, and a larger profile is sent alone", arguments: ["none", "gzip"])
    func bytes(compression: String) throws {
        try Scenario.run { scenario in
            let upstream = try Tap(scenario, "tap")
            let gateway = try GatewayProcess(
                scenario,
                up: ReceiverEntry.endpoint(
                    upstream.url, "\"compression\": \"\(compression)\"",
                    config: "\"batch\": { \"max_profiles\": 100, \"max_bytes\": \"1KiB\" }"))
            let series = (0..<100).map { number in
                PushSeries(samples: ["id-\(number)": String(repeating: "x", count: number == 50 ? 5000 : 300)])
            }
            #expect(try RawConnection(gateway.port).push(series).status == 200)
            try gateway.waitForDeliveries(100)
            let attempts = try gateway.metrics()["pyroscope_write_latency_count{receiver=\"up\",endpoint=\"up\"}"]
            let requests = try upstream.wait(count: attempts).map { try $0.series }
            #expect(Set(requests.flatMap { $0 }) == Set(series))
            for request in requests where request.count > 1 {
                #expect(request.flatMap(\.texts).map(\.utf8.count).reduce(0, +) <= 1024)
            }
            #expect(requests.contains { $0.count > 1 })
        }
    }

    @Test("The profiles of a rejected batch are sent again one by one, so that only the bad one is lost", arguments: [400, 413, 422])
    func rejected(status: Int) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.reject("profile 77", status)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, "\"max_profiles\": 4"))
            try push(gateway, 100)
            let metrics = try gateway.waitForOutcomes(100)
            #expect(metrics.delivered("up") == 99)
            #expect(metrics.dropped("up", "rejected") == 1)
            // Requests without the bad profile were accepted.
            let passed = try series(upstream).filter { !$0.contains(.numbered(77)) }.flatMap { $0 }
            #expect(passed.count == 99 && Set(passed).count == 99)
        }
    }

    @Test("A waiting sender gets the result of its own profile, not of others in the batch")
    func delivered() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.reject("profile 7", 400)
            let gateway = try GatewayProcess(scenario, delivering: ["up": entry(upstream, "\"max_profiles\": 4")])
            let connections = try (0..<10).map { _ in try RawConnection(gateway.port) }
            for (number, connection) in connections.enumerated() {
                let body = try PushSeries.json([.numbered(number)])
                connection.send(
                    "POST \(GatewayProcess.pushPath) HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
            }
            #expect(try connections.map { try $0.readResponse().status } == (0..<10).map { $0 == 7 ? 400 : 200 })
        }
    }

    @Test("A batch that fails is retried and arrives")
    func retried() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.answer(503)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, "\"max_profiles\": 4"))
            try push(gateway, 50)
            try gateway.waitForMetrics("a retry") { $0.retries() > 0 }
            try upstream.answer()
            try gateway.waitForDeliveries(50)
            #expect(Set(try series(upstream).flatMap { $0 }) == Set((0..<50).map { .numbered($0) }))
        }
    }

    @Test("A batch that is too large for the upstream is split")
    func tooLarge() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let nginx = try Nginx(scenario, before: upstream.port, server: "client_max_body_size 200;")
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(nginx.url, config: "\"batch\": { \"max_profiles\": 50 }"))
            try push(gateway, 100)
            try gateway.waitForDeliveries(100)
            let all = try series(upstream).flatMap { $0 }
            #expect(all.count == 100 && Set(all).count == 100)
            #expect(try nginx.requests.contains { $0.status == 413 })
        }
    }

    @Test("An upstream that is killed and restarted gets every profile, and the other endpoint each once")
    func killed() throws {
        try Scenario.run { scenario in
            let (first, healthy) = (try Recorder(scenario), try Recorder(scenario))
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "both": ReceiverEntry.writer(
                        first.url, healthy.url, more: ReceiverEntry.quickRetry, config: "\"batch\": { \"max_profiles\": 4 },")
                ])
            try push(gateway, 100)
            try first.wait(count: 5)
            first.kill()
            try push(gateway, 100..<200)
            let second = try Recorder(scenario, port: first.port)
            try gateway.waitForMetrics("200 deliveries") { $0.delivered("both") == 200 }
            let wanted = Set((0..<200).map { PushSeries.numbered($0) })
            let all = try series(healthy).flatMap { $0 }
            #expect(all.count == 200 && Set(all) == wanted)
            #expect(Set(try (series(first) + series(second)).flatMap { $0 }) == wanted)
        }
    }

    @Test("Profiles of different tenants, and those of /ingest, never share a request")
    func apart() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: entry(upstream, "\"max_profiles\": 10"))
            let connections = try (0..<2).map { _ in try RawConnection(gateway.port) }
            for number in 0..<40 {
                let tenant = "X-Scope-OrgID: team-\(number % 2)\r\n"
                #expect(try connections[number % 2].push([.numbered(number)], headers: tenant).status == 200)
            }
            try gateway.send(3)
            try gateway.waitForDeliveries(43)
            for request in upstream.requests where request.target == GatewayProcess.pushPath {
                let numbers = try request.series.flatMap(\.texts).compactMap { Int($0.dropFirst("profile ".count)) }
                #expect(request.header("X-Scope-OrgID") == ["team-\((numbers.first ?? 0) % 2)"])
                #expect(Set(numbers.map { $0 % 2 }).count == 1)
            }
            #expect(upstream.requests.count { $0.target == "/ingest?name=app" } == 3)
        }
    }
}
