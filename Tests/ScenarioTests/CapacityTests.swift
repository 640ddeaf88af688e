import Foundation
import Testing

@testable import TestSupport

@Suite("Many connections and large bodies", .serialized)
struct CapacityTests {
    @Test("10,000 idle connections that have each sent a profile cost less than 20 MiB")
    func idleConnections() throws {
        try Scenario.run { scenario in
            let count = 10_000
            try Self.raiseDescriptorLimit(to: count + 2000)
            // On a busy machine the test takes longer than a connection may be without a request.
            let http = "\"server_read_timeout\": \"10m\", \"server_idle_timeout\": \"10m\","
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], http: http)
            try gateway.send(count)
            func resident() throws -> Int {
                try gateway.waitForMetrics("a quiet gateway") { $0.queued("console") == 0 }["process_resident_memory_bytes"]
            }
            let before = try resident()
            let connections = try (0..<count).map { _ in try RawConnection(gateway.port) }
            for connection in connections { #expect(try connection.post("/ingest?name=a", "a 1").status == 200) }
            // A client of another test may look for a server that had this port before, and is one more for a moment.
            try gateway.waitForMetrics("the connections, and no other") { $0.connections() == count }
            // A sanitizer's memory per connection does not count.
            if !Project.isSanitized { #expect(try resident() - before < 20 << 20) }
        }
    }

    private static func raiseDescriptorLimit(to count: Int) throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        try #require(limit.rlim_max >= count, "the hard limit of descriptors")
        guard limit.rlim_cur < count else { return }
        limit.rlim_cur = rlim_t(count)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    @Test(
        "A body of 256 MiB arrives byte for byte where the limits allow it",
        arguments: ["Expect: 100-continue", "Transfer-Encoding: chunked"])
    func largeBody(header: String) throws {
        try Scenario.run { scenario in
            let size = 256 << 20
            let limits = "\"limits\": { \"max_body_size\": \(size) },"
            let http = "\"server_read_timeout\": \"10m\", \"server_write_timeout\": \"10m\","
            let archive = ReceiverEntry.archive(more: "\"delivery_timeout\": \"10m\", \"queue\": { \"max_bytes\": \"300MiB\" },")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: GatewayProcess.listener(["archive"], http: http, more: "\"ack\": \"delivered\","),
                    receivers: ["archive": archive], more: limits))
            let file = scenario.path("body")
            // The file is mostly a hole, and the marks must keep their offsets.
            try Data().write(to: URL(fileURLWithPath: file))
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
            try handle.truncate(atOffset: UInt64(size))
            for mark in [0, 262_143, 100_000_001, size - 9] {
                try handle.seek(toOffset: UInt64(mark))
                try handle.write(contentsOf: Data("mark \(mark % 1000)".utf8))
            }
            try handle.close()
            func upload() throws -> Curl {
                let url = "http://127.0.0.1:\(gateway.port)/ingest?name=large&format=pprof"
                return try Curl(scenario, ["-X", "POST", "-H", header, "-T", file, url])
            }
            let answer = try upload()
            #expect(answer.status == 200, "\(answer.body)")
            let archived = try #require(scenario.files(under: "archive").first { !$0.hasSuffix(".json") })
            #expect(try scenario.start(["cmp", file, scenario.path("archive/\(archived)")]).waitForExit() == 0)
            let one = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
            try one.truncate(atOffset: UInt64(size) + 1)
            #expect(try upload().status == 413)
        }
    }
}
