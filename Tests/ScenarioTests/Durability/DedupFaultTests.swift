import Foundation
import Testing

@testable import TestSupport

/// The list of accepted requests on failing disks and after power cuts.
@Suite(
    "Repeated requests on a failing disk", .serialized,
    .enabled(if: !Project.isSanitized, "a sanitizer and LD_PRELOAD exclude each other"))
struct DedupFaultTests {
    /// Runs a test against a gateway whose upstream refuses connections until the test lets it listen.
    private func run(_ body: (GatewayProcess, Recorder, FaultShim) throws -> Void) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.refuse()
            let shim = try FaultShim(scenario, below: "data")
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"], more: "\"dedup_window\": \"10m\","),
                receivers: ["up": ReceiverEntry.writer(upstream.url, more: ReceiverEntry.quickRetry)],
                more: SpoolMembers.members("\"sync\": \"always\""))
            try body(try GatewayProcess(scenario, config, environment: shim.environment), upstream, shim)
        }
    }

    /// Lets the upstream listen, and waits until the queue is empty.
    private func drain(_ gateway: GatewayProcess, _ upstream: Recorder) throws -> Metrics {
        try upstream.listen()
        return try gateway.waitForMetrics("an empty queue") { $0.queued("up") == 0 }
    }

    /// How many repeated requests were recognized.
    private static func repeats(_ metrics: Metrics) -> Int { metrics["gateway_requests_deduplicated_total{listener=\"default\"}"] }

    @Test("Before a 200, the profile is synced first and the request second")
    func order() throws {
        try run { gateway, upstream, shim in
            try gateway.send(1)
            let calls = try shim.calls.filter { $0.hasSucceeded && ($0.isWrite || $0.isSync) }
            let stored = try #require(calls.lastIndex { $0.isSync && $0.path.hasSuffix(".records") })
            let written = try #require(calls.firstIndex { $0.isWrite && $0.path.hasSuffix(".requests") && $0.offset > 0 })
            let synced = try #require(calls.lastIndex { $0.isSync && $0.path.hasSuffix(".requests") })
            #expect(stored < written && written < synced)
            _ = try drain(gateway, upstream)
        }
    }

    @Test("Concurrent requests share a write and a sync")
    func groups() throws {
        try run { gateway, upstream, shim in
            try shim.set("call=syncs path=.requests skip=100000 error=EIO")
            let connections = try (0..<64).map { _ in try RawConnection(gateway.port) }
            for round in 0..<5 {
                let requests = connections.indices.map { number in
                    let body = GatewayProcess.body(64 * round + number)
                    return Array("POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
                }
                for (connection, request) in zip(connections, requests) { connection.send(request) }
                for connection in connections { #expect(try connection.readResponse().status == 200) }
            }
            let syncs = try shim.calls.count { $0.isSync && $0.path.hasSuffix(".requests") }
            #expect((1..<320).contains(syncs), "\(syncs) syncs for 320 requests")
            _ = try drain(gateway, upstream)
        }
    }

    @Test("After a power cut, requests that got 200 are recognized, and their profiles arrive once")
    func powerCut() throws {
        try run { gateway, upstream, shim in
            try gateway.send(40)
            try gateway.kill()
            _ = try PowerCut(try shim.calls).strike()
            let next = try gateway.again(environment: [:])
            try next.send(50)
            #expect(Self.repeats(try drain(next, upstream)) == 40)
            #expect(upstream.texts == GatewayProcess.bodies(0..<50))
        }
    }

    @Test(
        "A request that cannot be recorded is still accepted, and only its repeat after a restart is delivered again",
        arguments: [
            "call=writes path=.requests error=ENOSPC", "call=syncs path=.requests error=EIO lose=1",
            "call=create path=.requests error=EMFILE",
        ])
    func failing(rule: String) throws {
        try run { gateway, upstream, shim in
            try shim.set(rule)
            for _ in 0..<2 { try gateway.send(10) }
            #expect(Self.repeats(try gateway.metrics()) == 10)
            try gateway.log.wait(for: "accepted requests cannot be written")
            #expect(gateway.log.lines.count { $0.contains("accepted requests cannot be written") } == 1)
            try shim.set()
            try gateway.send(5, from: 10)
            try gateway.kill()
            let next = try gateway.again(environment: [:])
            try next.send(15)
            #expect(Self.repeats(try drain(next, upstream)) == 5)
            let twice = GatewayProcess.bodies(0..<10).mapValues { _ in 2 }
            #expect(upstream.texts == twice.merging(GatewayProcess.bodies(10..<15)) { $1 })
        }
    }
}
