import Foundation
import Testing

@testable import TestSupport

@Suite("Fair shares between senders", .serialized)
struct FairShareTests {
    /// Runs a test against a gateway with one receiver, which delivers at once.
    private func run(
        _ more: String, http: String = "", limits: String = "", _ body: (Scenario, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let listener = GatewayProcess.listener(["console"], http: http, more: more)
            let receivers = ["console": ReceiverEntry.console()]
            try body(scenario, try GatewayProcess(scenario, GatewayProcess.config(listeners: listener, receivers: receivers, more: limits)))
        }
    }

    private static func tenant(_ name: String) -> String { "X-Scope-OrgID: \(name)\r\n" }

    /// Begins a request and sends as much of all but its last byte as the gateway reads.
    private func unfinished(_ gateway: GatewayProcess, _ tenant: String, _ count: Int) throws -> RawConnection {
        let connection = try RawConnection(gateway.port)
        connection.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\(Self.tenant(tenant))Content-Length: \(count)\r\n\r\n")
        connection.sendWhatFits([UInt8](repeating: 0x78, count: count - 1))
        return connection
    }

    @Test(
        "Unfinished bodies of one tenant do not block other tenants",
        arguments: ["\"tenant\": { \"allow\": [\"hog\", \"good\"] },", "\"tenant\": { \"require\": true },"])
    func unfinishedBodies(policy: String) throws {
        let limits = "\"limits\": { \"max_in_flight_bytes\": \"4MiB\" },"
        try run(policy, http: "\"server_read_timeout\": \"10m\", \"min_body_rate\": 0,", limits: limits) { _, gateway in
            let hogs = try (0..<12).map { _ in try unfinished(gateway, "hog", 1 << 20) }
            let good = try RawConnection(gateway.port)
            let body = String(repeating: "g", count: 900_000)
            for _ in 0..<5 { #expect(try good.post("/ingest?name=b", body, headers: Self.tenant("good")).status == 200) }
            #expect(hogs.allSatisfy { !$0.hasInput }, "they are still at it")
            // A tenant that finishes its body is served, also the hog.
            for hog in hogs { hog.close() }
            #expect(try good.post("/ingest?name=b", body, headers: Self.tenant("hog")).status == 200)
            try gateway.waitForMetrics("what came") { $0.delivered("console") == 6 }
        }
    }

    @Test("A body that becomes slower than min_body_rate gets 408, and other senders are served")
    func bodyRate() throws {
        try run("", http: "\"server_read_timeout\": \"10m\", \"min_body_rate\": \"1KiB\",") { _, gateway in
            let slow = try unfinished(gateway, "", 200_000)
            let other = try RawConnection(gateway.port)
            #expect(try other.post("/ingest?name=b", "b 1").status == 200)
            let refusal = try slow.readResponse()
            #expect(refusal.status == 408)
            #expect(refusal.text.contains("min_body_rate"))
            #expect(refusal.header("Connection") == "close")
            #expect(try other.post("/ingest?name=b", "b 1").status == 200)
        }
    }

    @Test("Bytes count against the rate limit as they arrive, and a refusal returns them")
    func bytesAsTheyCome() throws {
        let rate = "\"rate_limit\": { \"bytes_per_second\": 1, \"bytes_burst\": \"8MiB\" },"
        try run(rate, http: "\"server_read_timeout\": \"10m\", \"min_body_rate\": 0,") { _, gateway in
            let open = try RawConnection(gateway.port)
            open.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n600000\r\n")
            #expect(open.send([UInt8](repeating: 0x78, count: 5 << 20)))
            // After that, 3 MiB of the bucket are left.
            let refusal = try gateway.log.poll(for: "a refusal") { () -> RawConnection.Response? in
                let second = try RawConnection(gateway.port)
                second.send("POST /ingest?name=b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: \(4 << 20)\r\n\r\n")
                let answer = try second.readResponse(toHead: true)
                return answer.status == 100 ? nil : answer
            }
            #expect(refusal.status == 429)
            #expect(Int(refusal.header("Retry-After") ?? "") ?? 0 > 1)
            let chunked = try RawConnection(gateway.port)
            chunked.send("POST /ingest?name=b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n")
            chunked.send([UInt8](repeating: 0x78, count: 5 << 20))
            #expect(try chunked.readResponse().status == 429)
            open.send([UInt8](repeating: 0x78, count: 1 << 20))
            open.send("\r\n0\r\n\r\n")
            #expect(try open.readResponse().status == 200)
            let rest = String(repeating: "b", count: 1 << 20)
            #expect(
                try RawConnection(gateway.port).post("/ingest?name=b", rest).status == 200, "the refused one has given back what it took")
        }
    }

    @Test("A compressed Push is charged to its tenant's rate limit by its inflated size")
    func inflated() throws {
        let rate = "\"rate_limit\": { \"bytes_per_second\": 1000, \"bytes_burst\": \"1MiB\" },"
        try run(rate, http: LargePushTests.patient) { scenario, gateway in
            let bomb = try LargePushTests.bomb(scenario, 8 << 20)
            #expect(bomb.count < 100_000)
            let connection = try RawConnection(gateway.port)
            LargePushTests.begin(connection, bomb)
            #expect(try connection.readResponse().status == 200, "more than the bucket holds passes while that is full")
            LargePushTests.begin(connection, bomb)
            let refusal = try connection.readResponse()
            #expect(refusal.status == 429)
            #expect(Int(refusal.header("Retry-After") ?? "") ?? 0 > 7000)
        }
    }

    @Test("Guesses with many user names make no user wait for more than one guess")
    func madeUpNames() throws {
        try Scenario.run { scenario in
            let users = try ["alice", "bob"].map { try AccessTests.user(scenario, $0, "secret", "$6$rounds=200000$saltsaltsalt$") }
            try scenario.write(users.joined(), to: "users")
            let listener = GatewayProcess.listener(["console"], more: "\"auth\": { \"basic\": { \"users_file\": \"users\" } },")
            let receivers = ["console": ReceiverEntry.console()]
            let gateway = try GatewayProcess(scenario, GatewayProcess.config(listeners: listener, receivers: receivers))
            let guessers = try (0..<30).map { number in
                let guesser = try RawConnection(gateway.port)
                guesser.send(
                    "POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\(AccessTests.basic("user\(number)", "guess"))Content-Length: 0\r\n\r\n")
                return guesser
            }
            let logins = try ["alice", "bob"].map { user in
                let login = try RawConnection(gateway.port)
                login.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\(AccessTests.basic(user, "secret"))Content-Length: 0\r\n\r\n")
                return login
            }
            for login in logins { #expect(try login.readResponse().status == 200) }
            #expect(guessers.count { $0.hasInput } <= 6, "the users were not behind all of the guesses")
        }
    }
}
