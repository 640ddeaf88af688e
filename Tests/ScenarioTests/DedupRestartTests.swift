import Foundation
import Testing

@testable import TestSupport

@Suite("Repeated requests after a restart", .serialized)
struct DedupRestartTests {
    @Test(
        "After kill -9 or SIGTERM, a repeat is recognized by both APIs",
        arguments: [Dedup.long, Dedup.delivered], ["kill", "stop"])
    func restart(listener: String, end: String) throws {
        try Dedup.run(listener, top: SpoolMembers.members()) { first, upstream in
            let push = try PushSeries.json([.numbered(1)])
            func send(to gateway: GatewayProcess, profiles: Int) throws {
                let connection = try RawConnection(gateway.port)
                for number in 0..<profiles { #expect(try connection.post("/ingest?name=app", "profile \(number)").status == 200) }
                #expect(try connection.post(GatewayProcess.pushPath, push, headers: "Content-Type: application/json\r\n").status == 200)
            }
            try send(to: first, profiles: 20)
            try Dedup.settle(first)
            if end == "kill" { try first.kill() } else { #expect(try first.stop() == 0) }
            let second = try first.again()
            try send(to: second, profiles: 21)
            let metrics = try Dedup.settle(second)
            #expect((metrics.deduplicated(), metrics.accepted("up")) == (21, 1))
            // A delivery just before the kill may not be on record, and then happens again.
            #expect(upstream.requests.count == 22 + metrics.recovered("up"))
        }
    }

    @Test("A profile that waits at kill -9 is delivered once, also when its sender repeats it")
    func recovered() throws {
        try Dedup.run(top: SpoolMembers.members()) { first, upstream in
            try upstream.refuse()
            for number in 0..<10 { #expect(try RawConnection(first.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try first.kill()
            let second = try first.again()
            for number in 0..<10 { #expect(try RawConnection(second.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try upstream.listen()
            let metrics = try Dedup.settle(second)
            #expect((metrics.recovered("up"), metrics.accepted("up"), metrics.deduplicated()) == (10, 0, 10))
            #expect(upstream.texts == Dictionary(uniqueKeysWithValues: (0..<10).map { ("profile \($0)", 1) }))
        }
    }

    @Test("A request that failed before kill -9 is treated as new")
    func failedBefore() throws {
        try Dedup.run(Dedup.delivered, top: SpoolMembers.members()) { first, upstream in
            try upstream.answer(400)
            #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 400)
            try Dedup.settle(first)
            try first.kill()
            try upstream.answer(200)
            let second = try first.again()
            #expect(try RawConnection(second.port).post("/ingest?name=app", "same").status == 200)
            #expect(try second.metrics().deduplicated() == 0)
        }
    }

    @Test("Requests of a memory queue are not recognized after a restart")
    func memoryQueue() throws {
        try Dedup.run(receiver: "\"queue\": { \"storage\": \"memory\" }," + ReceiverEntry.quickRetry, top: SpoolMembers.members()) {
            first, upstream in
            try upstream.refuse()
            for _ in 0..<2 { #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 200) }
            try first.kill()
            try upstream.listen()
            let second = try first.again()
            #expect(try RawConnection(second.port).post("/ingest?name=app", "same").status == 200)
            try Dedup.settle(second)
            #expect(upstream.texts == ["same": 1])
        }
    }

    @Test("A damaged record of a request costs only that its repeat is delivered again")
    func damaged() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let first = try Dedup.gateway(scenario, upstream, more: SpoolMembers.members())
            for number in 0..<3 { #expect(try RawConnection(first.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try Dedup.settle(first)
            #expect(try first.stop() == 0)
            let file = try #require(scenario.files(under: "data/requests").first)
            var bytes = try scenario.bytes(of: "data/requests/\(file)")
            bytes[32 + 56 + 30] ^= 1
            try bytes.write(to: URL(fileURLWithPath: scenario.path("data/requests/\(file)")))
            let second = try first.again()
            try second.log.wait(for: "accepted requests lost")
            for number in 0..<3 { #expect(try RawConnection(second.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            #expect(try Dedup.settle(second).deduplicated() == 2)
            #expect(upstream.texts == ["profile 0": 1, "profile 1": 2, "profile 2": 1])
        }
    }

    @Test("When the keys cannot be written, requests are still accepted, and recognized until the next start")
    func unwritable() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try FileManager.default.createDirectory(atPath: scenario.path("data"), withIntermediateDirectories: true)
            _ = try scenario.write("no folder", to: "data/requests")
            let first = try Dedup.gateway(scenario, upstream, more: SpoolMembers.members())
            for _ in 0..<3 { #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 200) }
            #expect(try Dedup.settle(first).deduplicated() == 2)
            // The thread that writes them says so, perhaps after the answers.
            try first.log.wait(for: "accepted requests cannot be written")
            #expect(first.log.lines.count { $0.contains("accepted requests cannot be written") } == 1)
        }
    }
}
