import Foundation
import Testing

@testable import TestSupport

/// With `dedup_window`, a sender's retry of an accepted request is answered but not delivered again.
@Suite("Repeated requests", .serialized)
struct DedupTests {
    /// Sends a request without waiting for its answer.
    private static func begin(_ connection: RawConnection, _ body: String) {
        connection.send("POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    // MARK: Accepted requests

    @Test(
        "A request sent twice gets 200 twice and is delivered once, with either ack, in memory or on disk",
        arguments: [Dedup.long, Dedup.delivered],
        [
            "", SpoolMembers.members("\"sync\": \"always\""), SpoolMembers.members("\"sync\": \"interval\""),
            SpoolMembers.members("\"sync\": \"never\""),
        ])
    func twice(listener: String, spool: String) throws {
        try Dedup.run(listener, top: spool) { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for number in [1, 1, 2, 1, 2] {
                let answer = try connection.post("/ingest?name=app", "profile \(number)")
                #expect((answer.status, answer.text) == (200, ""))
            }
            let metrics = try Dedup.settle(gateway)
            #expect(upstream.texts == ["profile 1": 1, "profile 2": 1])
            #expect((metrics.received, metrics.accepted("up"), metrics.delivered("up")) == (2, 2, 2))
            #expect((metrics.deduplicated(), metrics.answered(200)) == (3, 5))
        }
    }

    @Test("Deduplication is off by default and with false", arguments: ["", "\"dedup_window\": false,"])
    func off(listener: String) throws {
        try Dedup.run(listener) { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "same").status == 200) }
            #expect(try upstream.wait(count: 2).count == 2)
            #expect(try gateway.metrics().deduplicated() == 0)
        }
    }

    @Test("A request is delivered again once its window is over")
    func expiry() throws {
        try Dedup.run("\"dedup_window\": \"400ms\",") { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            func send() throws { #expect(try connection.post("/ingest?name=app", "same").status == 200) }
            let start = ContinuousClock.now
            try send()
            try upstream.wait(count: 1)
            var repeats = 0
            while upstream.requests.count < 2 {
                try send()
                repeats += 1
                try #require(start.duration(to: .now) < .seconds(60))
            }
            #expect(start.duration(to: .now) >= .milliseconds(400))
            #expect(try Dedup.settle(gateway).deduplicated() <= repeats - 1)
        }
    }

    @Test("Requests with another tenant, path, query, type, body or listener are different")
    func different() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try Dedup.gateway(scenario, upstream, ["default": Dedup.long, "other": Dedup.long])
            let requests: [(String, String, String, String)] = [
                ("default", "/ingest?name=app", "", "same"), ("default", "/ingest?name=app", "X-Scope-OrgID: b\r\n", "same"),
                ("default", "/pyroscope/ingest?name=app", "", "same"), ("default", "/ingest?name=app&from=1", "", "same"),
                ("default", "/ingest?name=app", "Content-Type: text/plain\r\n", "same"),
                ("default", "/ingest?name=app", "Content-Encoding: gzip\r\n", "same"), ("default", "/ingest?name=app", "", "samE"),
                ("default", "/ingest?name=app", "", ""), ("other", "/ingest?name=app", "", "same"),
            ]
            for _ in 0..<2 {
                for (listener, target, headers, body) in requests {
                    let connection = try RawConnection(try #require(gateway.ports[listener]))
                    #expect(try connection.post(target, body, headers: headers).status == 200)
                }
            }
            let metrics = try Dedup.settle(gateway)
            #expect(metrics.delivered("up") == requests.count)
            #expect((metrics.deduplicated(), metrics.deduplicated("other")) == (requests.count - 1, 1))
        }
    }

    @Test("The tenant that the listener sets is compared, and other headers are not")
    func forcedTenant() throws {
        try Dedup.run(Dedup.long + "\"tenant\": { \"force\": \"team\" },") { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for headers in ["", "X-Scope-OrgID: b\r\n", "User-Agent: x\r\ntraceparent: y\r\n"] {
                #expect(try connection.post("/ingest?name=app", "same", headers: headers).status == 200)
            }
            #expect(try Dedup.settle(gateway).deduplicated() == 2)
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("A large body is the same request with Content-Length and in chunks")
    func pieces() throws {
        try Dedup.run { gateway, upstream in
            let body = String(repeating: "main;work 1\n", count: 100_000)
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", body).status == 200)
            let chunked = try RawConnection(gateway.port)
            chunked.send("POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            var rest = Array(body.utf8)[...]
            while !rest.isEmpty {
                let piece = rest.prefix(99_991)
                chunked.send(Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + Array("\r\n".utf8))
                rest = rest.dropFirst(piece.count)
            }
            chunked.send("0\r\n\r\n")
            #expect(try chunked.readResponse().status == 200)
            #expect(try Dedup.settle(gateway).deduplicated() == 1)
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("A repeat counts neither against the rate limit nor as received")
    func rate() throws {
        try Dedup.run(Dedup.long + "\"rate_limit\": { \"bytes_per_second\": 1, \"bytes_burst\": 11 },") { gateway, _ in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<5 { #expect(try connection.post("/ingest?name=app", "first").status == 200) }
            #expect(try connection.post("/ingest?name=app", "second").status == 200)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "the third").status == 429, "a refusal is not remembered") }
            let metrics = try Dedup.settle(gateway)
            #expect((metrics.received, metrics.deduplicated(), metrics.delivered("up")) == (2, 4, 2))
        }
    }

    // MARK: Push

    @Test("Repeated Push requests are recognized in Connect JSON and protobuf, plain and gzip, and in gRPC-Web")
    func push() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try Dedup.gateway(scenario, upstream)
            let connection = try RawConnection(gateway.port)
            let json = Array(try PushSeries.json([.numbered(1)]).utf8)
            let proto = PushMessage.series(2, Array("profile".utf8))
            _ = try scenario.write(String(decoding: json, as: UTF8.self), to: "push")
            #expect(try scenario.run("gzip", "-n", scenario.path("push")).status == 0)
            let gzip = Array(try scenario.bytes(of: "push.gz"))
            let frame = [0] + (0..<4).map { UInt8(truncatingIfNeeded: proto.count >> (24 - 8 * $0)) } + proto
            let requests: [([UInt8], String)] = [
                (json, "Content-Type: application/json\r\n"), (proto, "Content-Type: application/proto\r\n"),
                (gzip, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"),
                (frame, "Content-Type: application/grpc-web+proto\r\n"),
            ]
            for (body, headers) in requests {
                let answers = try (0..<3).map { _ in try connection.post(GatewayProcess.pushPath, bytes: body, headers: headers) }
                #expect(answers.map(\.status) == [200, 200, 200])
                #expect(answers[1].body == answers[0].body && answers[2].body == answers[0].body)
            }
            let metrics = try Dedup.settle(gateway)
            #expect((metrics.received, metrics.delivered("up"), metrics.deduplicated()) == (4, 4, 8))
        }
    }

    @Test("A large Push that is repeated before it is decoded waits for the first, and is decoded once")
    func largePush() throws {
        try Dedup.run(http: LargePushTests.patient) { gateway, upstream in
            let series = (0..<400).map { PushSeries(samples: ["": "\($0) " + String(repeating: "x", count: 4000)]) }
            let body = try PushSeries.json(series)
            let connections = try (0..<4).map { _ in try RawConnection(gateway.port) }
            for connection in connections {
                connection.send(
                    "POST \(GatewayProcess.pushPath) HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                )
            }
            for connection in connections { #expect(try connection.readResponse().status == 200) }
            let metrics = try Dedup.settle(gateway)
            #expect((metrics.received, metrics.delivered("up"), metrics.deduplicated()) == (400, 400, 3))
            #expect(upstream.requests.count == 400)
        }
    }

    @Test("A malformed Push is refused each time")
    func malformed() throws {
        try Dedup.run { gateway, _ in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<3 {
                let answer = try connection.post(GatewayProcess.pushPath, "{", headers: "Content-Type: application/json\r\n")
                #expect((answer.status, answer.code) == (400, "invalid_argument"))
            }
            #expect(try gateway.metrics().deduplicated() == 0)
        }
    }

    // MARK: Open requests

    @Test("Repeats wait while the first request waits for its destination, and all get the same answer", arguments: [200, 400])
    func concurrent(status: Int) throws {
        try Dedup.run(Dedup.delivered) { gateway, upstream in
            try upstream.hold()
            let connections = try (0..<5).map { _ in try RawConnection(gateway.port) }
            for connection in connections { Self.begin(connection, "same") }
            try upstream.wait(count: 1)
            try gateway.waitForMetrics("all bodies") { $0["gateway_received_bytes_total{listener=\"default\"}"] == 20 }
            #expect(try gateway.metrics().received == 1)
            try upstream.answer(status)
            for connection in connections {
                let answer = try connection.readResponse()
                #expect(answer.status == status)
            }
            let metrics = try Dedup.settle(gateway)
            // A repeat that is looked up after the first failure is a first request again.
            let count = upstream.requests.count
            #expect(status == 200 ? count == 1 : (1...5).contains(count))
            #expect(metrics.deduplicated() == (status == 200 ? 4 : 0))
            try upstream.answer(200)
            #expect(try connections[0].post("/ingest?name=app", "same").status == 200)
            #expect(upstream.requests.count == (status == 200 ? 1 : count + 1), "a failure is forgotten")
        }
    }

    @Test("A request stays open after its sender got 504 or left, and the retry gets the outcome", arguments: [true, false])
    func outlivesItsSender(leaves: Bool) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let receivers = ["up": ReceiverEntry.endpoint(upstream.url, Dedup.patient, more: ReceiverEntry.quickRetry)]
            func config(_ http: String) -> String { GatewayProcess.config(delivering: receivers, http: http, more: Dedup.long) }
            let gateway = try GatewayProcess(scenario, config(leaves ? "" : "\"server_write_timeout\": \"300ms\","))
            try upstream.hold()
            let first = try RawConnection(gateway.port)
            Self.begin(first, "same")
            try upstream.wait(count: 1)
            if leaves {
                first.reset()
                try gateway.waitForMetrics("the end of the connection") { $0.connections() == 0 }
            } else {
                #expect(try first.readResponse().status == 504)
                #expect(try RawConnection(gateway.port).post("/ingest?name=app", "same").status == 504, "the second has its own time")
                // From here on a busy machine has time enough.
                try gateway.reload(config(""), scenario)
            }
            let second = try RawConnection(gateway.port)
            Self.begin(second, "same")
            try gateway.waitForMetrics("its arrival") { $0["gateway_received_bytes_total{listener=\"default\"}"] == (leaves ? 8 : 12) }
            try upstream.answer()
            #expect(try second.readResponse().status == 200)
            let metrics = try Dedup.settle(gateway)
            #expect((upstream.requests.count, metrics.deduplicated()) == (1, 1))
        }
    }

    @Test("Repeats whose senders leave while they wait change nothing")
    func waitersLeave() throws {
        try Dedup.run(Dedup.delivered) { gateway, upstream in
            try upstream.hold()
            let first = try RawConnection(gateway.port)
            Self.begin(first, "same")
            try upstream.wait(count: 1)
            for number in 2...9 {
                let connection = try RawConnection(gateway.port)
                Self.begin(connection, "same")
                try gateway.waitForMetrics("its arrival") { $0["gateway_received_bytes_total{listener=\"default\"}"] == 4 * number }
                connection.reset()
            }
            try gateway.waitForMetrics("their end") { $0.connections() == 1 }
            try upstream.answer()
            #expect(try first.readResponse().status == 200)
            let metrics = try Dedup.settle(gateway)
            #expect((upstream.requests.count, metrics.deduplicated()) == (1, 0))
        }
    }

    @Test("A rejection by a full queue is not remembered")
    func rejected() throws {
        let full = "\"max_in_flight\": 1, \"queue\": { \"max_profiles\": 1, \"on_full\": \"reject\" },"
        try Dedup.run(receiver: full) { gateway, upstream in
            try upstream.hold()
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=app", "one").status == 200)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "two").status == 503) }
            #expect(try connection.post("/ingest?name=app", "one").status == 200)
            try upstream.answer()
            try Dedup.settle(gateway)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "two").status == 200) }
            try Dedup.settle(gateway)
            #expect(upstream.texts == ["one": 1, "two": 1])
        }
    }
}
