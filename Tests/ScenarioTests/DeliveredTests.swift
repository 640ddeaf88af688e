import Foundation
import Testing

@testable import TestSupport

/// With `ack: delivered`, the answer of both APIs says what became of the profile.
@Suite("Answers with ack delivered", .serialized)
struct DeliveredTests {
    /// The API by which a profile is sent.
    enum API: String, CaseIterable, Sendable {
        case ingest, push

        /// A request whose body contains this text.
        private func request(_ text: String) throws -> (target: String, body: String) {
            switch self {
            case .ingest: ("/ingest?name=app", text)
            case .push: (GatewayProcess.pushPath, try PushSeries.json([PushSeries(samples: ["": text])]))
            }
        }

        /// Push needs this type, and ingest accepts it.
        private static let type = "Content-Type: application/json\r\n"

        /// Sends a profile and waits for the answer.
        func send(_ connection: RawConnection, _ number: Int = 1, padding: String = "") throws -> RawConnection.Response {
            let (target, body) = try request("profile \(number)" + padding)
            return try connection.post(target, body, headers: Self.type)
        }

        /// Sends a profile without waiting for the answer.
        func begin(_ connection: RawConnection, _ number: Int, padding: String = "") throws {
            let (target, body) = try request("profile \(number)" + padding)
            connection.send("POST \(target) HTTP/1.1\r\nHost: a\r\n\(Self.type)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
        }
    }

    /// A retry clock that allows one more attempt.
    private static let oneRetry =
        "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"5ms\", \"max_backoff_retries\": 1 },"

    /// Runs a test against a gateway with one upstream.
    private func run(_ more: String = ReceiverEntry.quickRetry, http: String = "", _ body: (GatewayProcess, Recorder) throws -> Void) throws
    {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, delivering: ["up": ReceiverEntry.endpoint(upstream.url, #""remote_timeout": "10m""#, more: more)],
                http: http)
            try body(gateway, upstream)
        }
    }

    /// Checks an error's status, code and headers, and that its text names neither the destination nor its secret.
    private static func check(_ answer: RawConnection.Response, _ status: Int, _ code: String, secret upstream: Recorder) {
        #expect(answer.status == status, "\(answer.text)")
        #expect(answer.code == code, "\(answer.text)")
        #expect(answer.header("Content-Type") == "application/json")
        #expect((answer.header("Retry-After") != nil) == (status == 503))
        #expect(!answer.text.contains("\(upstream.port)"), "no destination is named")
        #expect(!answer.text.contains("s3cret"), "no destination's words are repeated")
    }

    // MARK: One destination

    @Test("200 comes only after the delivery", arguments: API.allCases)
    func delivered(api: API) throws {
        try run { gateway, upstream in
            try upstream.hold()
            let connection = try RawConnection(gateway.port)
            try api.begin(connection, 1)
            try upstream.wait(count: 1)
            #expect(try gateway.metrics().answered(200) == 0)
            try upstream.answer()
            #expect(try connection.readResponse().status == 200)
            #expect(try gateway.metrics().delivered("up") == 1)
        }
    }

    /// A destination's status, and the status and code that a sender gets for it by each API.
    typealias Translation = (upstream: Int, ingest: (Int, String), push: (Int, String))

    static let permanent: [Translation] = [
        (400, (400, "invalid_argument"), (400, "invalid_argument")), (401, (401, "unauthenticated"), (401, "unauthenticated")),
        (403, (403, "permission_denied"), (403, "permission_denied")), (404, (404, "not_found"), (404, "not_found")),
        (413, (413, "invalid_argument"), (400, "invalid_argument")), (422, (422, "unknown"), (400, "invalid_argument")),
        (302, (500, "internal"), (500, "internal")),
    ]

    static let transient: [Translation] = [
        (408, (408, "unknown"), (504, "deadline_exceeded")), (429, (429, "resource_exhausted"), (429, "resource_exhausted")),
        (500, (500, "internal"), (500, "internal")), (502, (502, "unknown"), (503, "unavailable")),
        (503, (503, "unavailable"), (503, "unavailable")), (504, (504, "deadline_exceeded"), (504, "deadline_exceeded")),
    ]

    /// Sends a profile for each status, all on one connection, and checks what comes back.
    private func check(_ translations: [Translation], _ api: API, _ gateway: GatewayProcess, _ upstream: Recorder) throws {
        let connection = try RawConnection(gateway.port)
        for translation in translations {
            try upstream.answer(translation.upstream, body: "s3cret words")
            let (status, code) = api == .push ? translation.push : translation.ingest
            Self.check(try api.send(connection, translation.upstream), status, code, secret: upstream)
        }
        try upstream.answer()
        #expect(try api.send(connection).status == 200)
    }

    @Test("A permanent refusal is answered with the destination's status, or its equivalent code on Push", arguments: API.allCases)
    func rejected(api: API) throws {
        try run { gateway, upstream in
            try check(Self.permanent, api, gateway, upstream)
            #expect(try gateway.metrics().dropped("up", "rejected") == Self.permanent.count)
            let count = Self.permanent.count + 1
            #expect(try upstream.wait(count: count).count == count, "one attempt each")
        }
    }

    @Test("After the last retry, a transient failure is answered with the destination's status", arguments: API.allCases)
    func exhausted(api: API) throws {
        try run(Self.oneRetry) { gateway, upstream in
            try check(Self.transient, api, gateway, upstream)
            #expect(try gateway.metrics().dropped("up", "retries_exhausted") == Self.transient.count)
            let count = 2 * Self.transient.count + 1
            #expect(try upstream.wait(count: count).count == count, "two attempts each")
        }
    }

    @Test("A destination that refuses connections is answered with 500", arguments: API.allCases)
    func refused(api: API) throws {
        try run(Self.oneRetry) { gateway, upstream in
            try upstream.refuse()
            Self.check(try api.send(RawConnection(gateway.port)), 500, "internal", secret: upstream)
        }
    }

    @Test("A delivery that succeeds at the second attempt is answered with 200", arguments: API.allCases)
    func secondAttempt(api: API) throws {
        try run { gateway, upstream in
            try upstream.refuse()
            let connection = try RawConnection(gateway.port)
            try api.begin(connection, 1)
            try gateway.waitForMetrics("a retry") { $0["gateway_retries_total{receiver=\"up\"}"] >= 1 }
            try upstream.listen()
            #expect(try connection.readResponse().status == 200)
        }
    }

    // MARK: Messages of destinations

    private static let words = #"{"code":"invalid_argument","message":"profile of \u001b[31m7 h ago is too old, t0ken-t0ken"}"#

    @Test(
        "The destination's message is passed on with 400, 413 and 422 only, and without secrets", arguments: API.allCases
    )
    func message(api: API) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let entry = ReceiverEntry.endpoint(upstream.url, "\"bearer_token\": \"t0ken-t0ken\"", more: Self.oneRetry)
            let gateway = try GatewayProcess(scenario, delivering: ["up": entry])
            let connection = try RawConnection(gateway.port)
            for status in [400, 413, 422, 401, 403, 404, 429, 500, 503] {
                try upstream.answer(status, body: Self.words)
                let answer = try api.send(connection, status)
                let isTold = [400, 413, 422].contains(status)
                let own = "receiver \"up\" did not deliver the profile: status \(status)"
                #expect(answer.message == (isTold ? "\(own): profile of  [31m7 h ago is too old, [secret]" : own))
                #expect(!answer.text.contains("t0ken"))
            }
        }
    }

    @Test("A gRPC-Web sender gets the destination's message in grpc-message")
    func messageInGRPCWeb() throws {
        try run { gateway, upstream in
            try upstream.answer(400, body: #"{"message":"profile is 100% too old"}"#)
            let proto = PushMessage.series(2, Array("profile".utf8))
            let frame = [0] + (0..<4).map { UInt8(truncatingIfNeeded: proto.count >> (24 - 8 * $0)) } + proto
            let connection = try RawConnection(gateway.port)
            let answer = try connection.post(GatewayProcess.pushPath, bytes: frame, headers: "Content-Type: application/grpc-web+proto\r\n")
            #expect(
                answer.text.contains("grpc-message: receiver \"up\" did not deliver the profile: status 400: profile is 100%25 too old\r\n")
            )
        }
    }

    @Test("The message is passed on with dead letters too, but an HTML page is not")
    func messageAndLetter() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let listener = GatewayProcess.listener(["up"], more: "\"ack\": \"delivered\",")
            let config = GatewayProcess.config(
                listeners: listener, receivers: ["up": ReceiverEntry.writer(upstream.url)],
                more: "\"data_dir\": \"\(scenario.path("data"))\",")
            let gateway = try GatewayProcess(scenario, config)
            let connection = try RawConnection(gateway.port)
            try upstream.answer(422, body: #"{"message":"no such sample type"}"#)
            #expect(try API.push.send(connection).message.hasSuffix("status 422: no such sample type"))
            try upstream.answer(422, body: #"{"message":"<html>no</html>"}"#)
            #expect(try API.push.send(connection, 2).message.hasSuffix("status 422"))
        }
    }

    // MARK: Time

    @Test("After server_write_timeout the sender gets 504, and the profile is delivered later, once", arguments: API.allCases)
    func silent(api: API) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let receivers = ["up": ReceiverEntry.writer(upstream.url, more: ReceiverEntry.quickRetry)]
            let gateway = try GatewayProcess(scenario, delivering: receivers, http: "\"server_write_timeout\": \"200ms\",")
            try upstream.hold()
            let connection = try RawConnection(gateway.port)
            let answer = try api.send(connection)
            Self.check(answer, 504, "deadline_exceeded", secret: upstream)
            #expect(answer.message.contains("stays queued"))
            #expect(try gateway.metrics().queued("up") == 1)
            try upstream.answer()
            try gateway.waitForMetrics("the delivery") { $0.delivered("up") == 1 && $0.queued("up") == 0 }
            #expect(try upstream.wait(count: 1).count == 1)
            // From here on a busy machine has time enough.
            try gateway.reload(GatewayProcess.config(delivering: receivers), scenario)
            #expect(try api.send(connection, 2).status == 200, "the late outcome is not taken for the next one's")
        }
    }

    @Test(
        "Connect-Timeout-Ms shortens the wait, but cannot extend server_write_timeout",
        arguments: [("100", "60s"), ("60000", "100ms")])
    func timeoutHeader(header: String, writeTimeout: String) throws {
        try run(http: "\"server_write_timeout\": \"\(writeTimeout)\",") { gateway, upstream in
            try upstream.hold()
            let answer = try gateway.push(.numbered(1), headers: "Connect-Timeout-Ms: \(header)\r\n")
            Self.check(answer, 504, "deadline_exceeded", secret: upstream)
            try upstream.answer()
            try gateway.waitForMetrics("the delivery") { $0.delivered("up") == 1 }
        }
    }

    @Test("A profile is delivered also when its sender leaves", arguments: API.allCases)
    func senderLeaves(api: API) throws {
        try run { gateway, upstream in
            try upstream.hold()
            for number in 1...10 {
                let connection = try RawConnection(gateway.port)
                try api.begin(connection, number)
                try upstream.wait(count: number)
                if number % 2 == 0 { connection.reset() } else { connection.close() }
            }
            try upstream.answer()
            try gateway.waitForMetrics("10 deliveries") { $0.delivered("up") == 10 && $0.connections() == 0 }
        }
    }

    @Test("Pipelined requests are answered in order", arguments: API.allCases)
    func pipelined(api: API) throws {
        try run { gateway, upstream in
            let connection = try RawConnection(gateway.port)
            for number in 1...20 { try api.begin(connection, number) }
            for _ in 1...20 { #expect(try connection.readResponse().status == 200) }
            #expect(try upstream.wait(count: 20).count == 20)
        }
    }

    @Test("The body of a waiting sender counts against max_in_flight_bytes until it is answered", arguments: API.allCases)
    func inFlightBytes(api: API) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let listener = GatewayProcess.listener(["up"], http: "\"server_read_timeout\": \"4s\",", more: "\"ack\": \"delivered\",")
            let receivers = ["up": ReceiverEntry.writer(upstream.url)]
            let limits = "\"limits\": { \"max_in_flight_bytes\": \"64KiB\" },"
            let gateway = try GatewayProcess(scenario, GatewayProcess.config(listeners: listener, receivers: receivers, more: limits))
            let padding = String(repeating: "x", count: 200_000)
            let (first, second) = (try RawConnection(gateway.port), try RawConnection(gateway.port))
            try api.begin(first, 1, padding: padding)
            try upstream.wait(count: 1)
            let refused = try api.send(second, 2, padding: padding)
            #expect(refused.status == 503)
            #expect(refused.header("Retry-After") != nil)
            try upstream.answer()
            #expect(try first.readResponse().status == 200)
            #expect(try api.send(RawConnection(gateway.port), 3, padding: padding).status == 200)
        }
    }

    @Test("Every answer is counted by its status, also an unusual one of a destination", arguments: [409, 410, 418, 451, 507, 520])
    func unusualStatus(status: Int) throws {
        try run(Self.oneRetry) { gateway, upstream in
            try upstream.answer(status)
            #expect(try API.ingest.send(RawConnection(gateway.port)).status == status)
            let pushed = try API.push.send(RawConnection(gateway.port)).status
            let metrics = try gateway.metrics()
            #expect(metrics.answered(status) == (pushed == status ? 2 : 1))
            #expect(metrics.answered(pushed) >= 1)
        }
    }

    // MARK: Dropped profiles

    @Test("A profile that is evicted, too old or too large is answered with 500", arguments: API.allCases)
    func dropped(api: API) throws {
        let bounds = "\"max_in_flight\": 1, \"queue\": { \"max_profiles\": 2, \"max_age\": \"4s\", \"max_bytes\": \"4KiB\" },"
        try run(bounds) { gateway, upstream in
            try upstream.hold()
            let (first, second, third) = (try RawConnection(gateway.port), try RawConnection(gateway.port), try RawConnection(gateway.port))
            try api.begin(first, 1)
            try upstream.wait(count: 1)
            try api.begin(second, 2)
            try gateway.waitForMetrics("the second one to wait") { $0.queued("up") == 2 }
            try api.begin(third, 3)
            Self.check(try second.readResponse(), 500, "internal", secret: upstream)
            #expect(try gateway.metrics().dropped("up", "queue_full") == 1)
            Self.check(try third.readResponse(), 500, "internal", secret: upstream)
            #expect(try gateway.metrics().dropped("up", "max_age") == 1)
            Self.check(try api.send(third, padding: String(repeating: "x", count: 5000)), 500, "internal", secret: upstream)
            #expect(try gateway.metrics().dropped("up", "too_large") == 1)
            try upstream.answer()
            #expect(try first.readResponse().status == 200)
        }
    }

    // MARK: Several destinations

    /// Runs a test against a gateway with the receivers `a` and `b`.
    private func run(
        _ first: String, _ second: String, http: String = "", _ body: (GatewayProcess, Recorder, Recorder) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let (a, b) = (try Recorder(scenario), try Recorder(scenario))
            let receivers = ["a": ReceiverEntry.writer(a.url, more: first), "b": ReceiverEntry.writer(b.url, more: second)]
            try body(try GatewayProcess(scenario, delivering: receivers, http: http), a, b)
        }
    }

    @Test("A dead receiver that is not required delays no answer, and gets its profile when it is back", arguments: API.allCases)
    func notRequired(api: API) throws {
        try run("\"required\": false, \(ReceiverEntry.quickRetry)", "") { gateway, dead, healthy in
            try dead.refuse()
            #expect(try api.send(RawConnection(gateway.port)).status == 200)
            #expect(try healthy.wait(count: 1).count == 1)
            try dead.listen()
            try gateway.waitForMetrics("the late delivery") { $0.delivered("a") == 1 }
        }
    }

    @Test("A refusal by a receiver that is not required does not change the 200", arguments: API.allCases)
    func notRequiredRefuses(api: API) throws {
        try run("\"required\": false,", "") { gateway, refusing, _ in
            try refusing.answer(400)
            #expect(try api.send(RawConnection(gateway.port)).status == 200)
            try gateway.waitForMetrics("its drop") { $0.dropped("a", "rejected") == 1 }
        }
    }

    @Test("One rejection and one transient failure are answered with the transient failure", arguments: API.allCases)
    func transientWins(api: API) throws {
        try run("", Self.oneRetry) { gateway, a, b in
            try a.answer(400)
            try b.answer(503)
            let answer = try api.send(RawConnection(gateway.port))
            Self.check(answer, 503, "unavailable", secret: b)
            #expect(answer.message.contains("\"b\""))
        }
    }

    @Test("Of two rejections, the one of the first receiver in the config is the answer", arguments: API.allCases)
    func configOrder(api: API) throws {
        try run("", "") { gateway, a, b in
            try a.hold()
            try b.answer(401)
            let connection = try RawConnection(gateway.port)
            try api.begin(connection, 1)
            try gateway.waitForMetrics("b's outcome") { $0.dropped("b", "rejected") == 1 }
            try a.wait(count: 1)
            try a.answer(403)
            let answer = try connection.readResponse()
            Self.check(answer, 403, "permission_denied", secret: a)
            #expect(answer.message.contains("\"a\""))
        }
    }

    @Test("One rejection and one endless retry are answered with 504, and the retry succeeds later", arguments: API.allCases)
    func rejectedAndRetried(api: API) throws {
        try run("", ReceiverEntry.quickRetry, http: "\"server_write_timeout\": \"300ms\",") { gateway, a, b in
            try a.answer(400)
            try b.refuse()
            Self.check(try api.send(RawConnection(gateway.port)), 504, "deadline_exceeded", secret: b)
            try b.listen()
            try gateway.waitForMetrics("the late delivery") { $0.delivered("b") == 1 }
        }
    }

    @Test("A Push gets 200 only if all its series are delivered, and a refused series decides the answer")
    func severalSeries() throws {
        try run { gateway, upstream in
            #expect(try gateway.push(.numbered(1), .numbered(2), .numbered(3)).status == 200)
            let all = ["profile 1": 1, "profile 2": 1, "profile 3": 1]
            #expect(try upstream.wait(forSamples: Set(all.keys)) == all)
            try upstream.answer(400)
            Self.check(try gateway.push(.numbered(4), .numbered(5)), 400, "invalid_argument", secret: upstream)
            #expect(try gateway.metrics().dropped("up", "rejected") == 2)
        }
    }
}
