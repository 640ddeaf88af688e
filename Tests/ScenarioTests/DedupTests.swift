import Foundation
import Testing

/// `dedup_window`: a sender's own retry of a request that was accepted is answered, and not delivered again.
@Suite("A request that comes twice", .serialized)
struct DedupTests {
    private static let long = "\"dedup_window\": \"10m\","

    /// - Parameter listeners: members of each listener.
    private func gateway(
        _ scenario: Scenario, _ upstream: Recorder, _ listeners: [String: String] = ["default": long], http: String = "",
        receiver: String = ReceiverEntry.quickRetry, more: String = ""
    ) throws -> GatewayProcess {
        let entries = listeners.sorted { $0.key < $1.key }.map {
            GatewayProcess.listener(["up"], http: http, more: $0.value, name: $0.key)
        }
        let receivers = ["up": ReceiverEntry.writer(upstream.url, more: receiver)]
        return try GatewayProcess(scenario, GatewayProcess.config(listeners: entries.joined(), receivers: receivers, more: more))
    }

    private func run(
        _ more: String = long, http: String = "", receiver: String = ReceiverEntry.quickRetry, top: String = "",
        _ body: (GatewayProcess, Recorder) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try body(try gateway(scenario, upstream, ["default": more], http: http, receiver: receiver, more: top), upstream)
        }
    }

    private static let delivered = long + "\"ack\": \"delivered\","

    /// Sends without waiting for the answer.
    private static func begin(_ connection: RawConnection, _ body: String) {
        connection.send("POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    /// Waits until nothing is on its way.
    @discardableResult
    private static func settle(_ gateway: GatewayProcess) throws -> Metrics {
        try gateway.waitForMetrics("empty queues") { $0.queued("up") == 0 }
    }

    // MARK: Accepted

    @Test(
        "The same request twice is 200 twice and delivered once, with ack queued or delivered, in memory or on disk",
        arguments: [long, delivered],
        ["", Spool.members("\"sync\": \"always\""), Spool.members("\"sync\": \"interval\""), Spool.members("\"sync\": \"never\"")])
    func twice(listener: String, spool: String) throws {
        try run(listener, top: spool) { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for number in [1, 1, 2, 1, 2] {
                let answer = try connection.post("/ingest?name=app", "profile \(number)")
                #expect((answer.status, answer.text) == (200, ""))
            }
            let metrics = try Self.settle(gateway)
            #expect(upstream.texts == ["profile 1": 1, "profile 2": 1])
            #expect((metrics.received, metrics.accepted("up"), metrics.delivered("up")) == (2, 2, 2))
            #expect((metrics.deduplicated(), metrics.answered(200)) == (3, 5))
        }
    }

    @Test("Off by default, and where it is false", arguments: ["", "\"dedup_window\": false,"])
    func off(listener: String) throws {
        try run(listener) { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "same").status == 200) }
            #expect(try upstream.wait(count: 2).count == 2)
            #expect(try gateway.metrics().deduplicated() == 0)
        }
    }

    @Test("Once its window is over a request is delivered again")
    func expiry() throws {
        try run("\"dedup_window\": \"400ms\",") { gateway, upstream in
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
            #expect(try Self.settle(gateway).deduplicated() <= repeats - 1)
        }
    }

    @Test("A request of another tenant, path, query, type, body or listener is another one")
    func different() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try gateway(scenario, upstream, ["default": Self.long, "other": Self.long])
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
            let metrics = try Self.settle(gateway)
            #expect(metrics.delivered("up") == requests.count)
            #expect((metrics.deduplicated(), metrics.deduplicated("other")) == (requests.count - 1, 1))
        }
    }

    @Test("The tenant is the one that the listener makes of it; other headers do not count")
    func forcedTenant() throws {
        try run(Self.long + "\"tenant\": { \"force\": \"team\" },") { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for headers in ["", "X-Scope-OrgID: b\r\n", "User-Agent: x\r\ntraceparent: y\r\n"] {
                #expect(try connection.post("/ingest?name=app", "same", headers: headers).status == 200)
            }
            #expect(try Self.settle(gateway).deduplicated() == 2)
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("However its bytes came, in pieces or chunks, a large body is the same")
    func pieces() throws {
        try run { gateway, upstream in
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
            #expect(try Self.settle(gateway).deduplicated() == 1)
            #expect(upstream.requests.count == 1)
        }
    }

    @Test("A repeat counts neither against the rate nor as received")
    func rate() throws {
        try run(Self.long + "\"rate_limit\": { \"bytes_per_second\": 1, \"bytes_burst\": 11 },") { gateway, _ in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<5 { #expect(try connection.post("/ingest?name=app", "first").status == 200) }
            #expect(try connection.post("/ingest?name=app", "second").status == 200)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "the third").status == 429, "a refusal is not remembered") }
            let metrics = try Self.settle(gateway)
            #expect((metrics.received, metrics.deduplicated(), metrics.delivered("up")) == (2, 4, 2))
        }
    }

    // MARK: Push

    @Test("A Push is told from others like any request: Connect in JSON and protobuf, plain and gzip, and gRPC-Web")
    func push() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try gateway(scenario, upstream)
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
            let metrics = try Self.settle(gateway)
            #expect((metrics.received, metrics.delivered("up"), metrics.deduplicated()) == (4, 4, 8))
        }
    }

    @Test("A large Push that comes again before it is decoded waits for the first, and is decoded once")
    func largePush() throws {
        try run { gateway, upstream in
            let series = (0..<400).map { PushSeries(samples: ["": "\($0) " + String(repeating: "x", count: 4000)]) }
            let body = try PushSeries.json(series)
            let connections = try (0..<4).map { _ in try RawConnection(gateway.port) }
            for connection in connections {
                connection.send(
                    "POST \(GatewayProcess.pushPath) HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                )
            }
            for connection in connections { #expect(try connection.readResponse().status == 200) }
            let metrics = try Self.settle(gateway)
            #expect((metrics.received, metrics.delivered("up"), metrics.deduplicated()) == (400, 400, 3))
            #expect(upstream.requests.count == 400)
        }
    }

    @Test("A malformed Push is refused each time, and so is its repeat")
    func malformed() throws {
        try run { gateway, _ in
            let connection = try RawConnection(gateway.port)
            for _ in 0..<3 {
                let answer = try connection.post(GatewayProcess.pushPath, "{", headers: "Content-Type: application/json\r\n")
                #expect((answer.status, answer.code) == (400, "invalid_argument"))
            }
            #expect(try gateway.metrics().deduplicated() == 0)
        }
    }

    // MARK: Open

    @Test("While the first waits for its destination the others wait with it, and all hear the same", arguments: [200, 400])
    func concurrent(status: Int) throws {
        try run(Self.delivered) { gateway, upstream in
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
            let metrics = try Self.settle(gateway)
            #expect(upstream.requests.count == 1)
            #expect(metrics.deduplicated() == (status == 200 ? 4 : 0))
            try upstream.answer(200)
            #expect(try connections[0].post("/ingest?name=app", "same").status == 200)
            #expect(upstream.requests.count == (status == 200 ? 1 : 2), "a failure is forgotten")
        }
    }

    @Test("A sender that had 504, or left, finds its request still open: the retry hears the outcome", arguments: [true, false])
    func outlivesItsSender(leaves: Bool) throws {
        try run(Self.delivered, http: leaves ? "" : "\"server_write_timeout\": \"300ms\",") { gateway, upstream in
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
            }
            let second = try RawConnection(gateway.port)
            Self.begin(second, "same")
            try gateway.waitForMetrics("its arrival") { $0["gateway_received_bytes_total{listener=\"default\"}"] == (leaves ? 8 : 12) }
            try upstream.answer()
            #expect(try second.readResponse().status == 200)
            let metrics = try Self.settle(gateway)
            #expect((upstream.requests.count, metrics.deduplicated()) == (1, 1))
        }
    }

    @Test("Those that leave while they wait change nothing")
    func waitersLeave() throws {
        try run(Self.delivered) { gateway, upstream in
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
            let metrics = try Self.settle(gateway)
            #expect((upstream.requests.count, metrics.deduplicated()) == (1, 0))
        }
    }

    @Test("A full queue that rejects is no outcome to remember")
    func rejected() throws {
        let full = "\"max_in_flight\": 1, \"queue\": { \"max_profiles\": 1, \"on_full\": \"reject\" },"
        try run(receiver: full) { gateway, upstream in
            try upstream.hold()
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=app", "one").status == 200)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "two").status == 503) }
            #expect(try connection.post("/ingest?name=app", "one").status == 200)
            try upstream.answer()
            try Self.settle(gateway)
            for _ in 0..<2 { #expect(try connection.post("/ingest?name=app", "two").status == 200) }
            try Self.settle(gateway)
            #expect(upstream.texts == ["one": 1, "two": 1])
        }
    }

    // MARK: Restarts

    @Test(
        "After kill -9 or SIGTERM a retry is known, by both APIs",
        arguments: [long, delivered], ["kill", "stop"])
    func restart(listener: String, end: String) throws {
        try run(listener, top: Spool.members()) { first, upstream in
            let push = try PushSeries.json([.numbered(1)])
            func send(to gateway: GatewayProcess, profiles: Int) throws {
                let connection = try RawConnection(gateway.port)
                for number in 0..<profiles { #expect(try connection.post("/ingest?name=app", "profile \(number)").status == 200) }
                #expect(try connection.post(GatewayProcess.pushPath, push, headers: "Content-Type: application/json\r\n").status == 200)
            }
            try send(to: first, profiles: 20)
            try Self.settle(first)
            if end == "kill" { try first.kill() } else { #expect(try first.stop() == 0) }
            let second = try first.again()
            try send(to: second, profiles: 21)
            let metrics = try Self.settle(second)
            #expect((metrics.deduplicated(), metrics.accepted("up")) == (21, 1))
            // What was delivered just before a kill may not be noted as such.
            #expect(upstream.requests.count == 22 + metrics.recovered("up"))
        }
    }

    @Test("What was accepted and not delivered before kill -9 comes once, whatever its sender sends again")
    func recovered() throws {
        try run(top: Spool.members()) { first, upstream in
            try upstream.refuse()
            for number in 0..<10 { #expect(try RawConnection(first.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try first.kill()
            let second = try first.again()
            for number in 0..<10 { #expect(try RawConnection(second.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try upstream.listen()
            let metrics = try Self.settle(second)
            #expect((metrics.recovered("up"), metrics.accepted("up"), metrics.deduplicated()) == (10, 0, 10))
            #expect(upstream.texts == Dictionary(uniqueKeysWithValues: (0..<10).map { ("profile \($0)", 1) }))
        }
    }

    @Test("A request that failed before kill -9 is like new")
    func failedBefore() throws {
        try run(Self.delivered, top: Spool.members()) { first, upstream in
            try upstream.answer(400)
            #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 400)
            try Self.settle(first)
            try first.kill()
            try upstream.answer(200)
            let second = try first.again()
            #expect(try RawConnection(second.port).post("/ingest?name=app", "same").status == 200)
            #expect(try second.metrics().deduplicated() == 0)
        }
    }

    @Test("A queue in memory is lost with its process, so its requests are not known after it")
    func memoryQueue() throws {
        try run(receiver: "\"queue\": { \"storage\": \"memory\" }," + ReceiverEntry.quickRetry, top: Spool.members()) { first, upstream in
            try upstream.refuse()
            for _ in 0..<2 { #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 200) }
            try first.kill()
            try upstream.listen()
            let second = try first.again()
            #expect(try RawConnection(second.port).post("/ingest?name=app", "same").status == 200)
            try Self.settle(second)
            #expect(upstream.texts == ["same": 1])
        }
    }

    @Test("Damage to what is noted costs repeats that are delivered again, and nothing else")
    func damaged() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let first = try gateway(scenario, upstream, more: Spool.members())
            for number in 0..<3 { #expect(try RawConnection(first.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            try Self.settle(first)
            #expect(try first.stop() == 0)
            let file = try #require(scenario.files(under: "data/requests").first)
            var bytes = try scenario.bytes(of: "data/requests/\(file)")
            bytes[32 + 56 + 30] ^= 1
            try bytes.write(to: URL(fileURLWithPath: scenario.path("data/requests/\(file)")))
            let second = try first.again()
            try second.log.wait(for: "accepted requests are forgotten")
            for number in 0..<3 { #expect(try RawConnection(second.port).post("/ingest?name=app", "profile \(number)").status == 200) }
            #expect(try Self.settle(second).deduplicated() == 2)
            #expect(upstream.texts == ["profile 0": 1, "profile 1": 2, "profile 2": 1])
        }
    }

    @Test("Where the keys cannot be written, requests are accepted all the same, and known until the next start")
    func unwritable() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try FileManager.default.createDirectory(atPath: scenario.path("data"), withIntermediateDirectories: true)
            _ = try scenario.write("no folder", to: "data/requests")
            let first = try gateway(scenario, upstream, more: Spool.members())
            for _ in 0..<3 { #expect(try RawConnection(first.port).post("/ingest?name=app", "same").status == 200) }
            #expect(try Self.settle(first).deduplicated() == 2)
            #expect(first.log.lines.count { $0.contains("cannot note accepted requests") } == 1)
        }
    }
}

extension Metrics {
    fileprivate func deduplicated(_ listener: String = "default") -> Int {
        self["gateway_requests_deduplicated_total{listener=\"\(listener)\"}"]
    }
}
