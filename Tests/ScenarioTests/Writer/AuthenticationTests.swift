import Testing

@testable import TestSupport

@Suite("Authentication at endpoints", .serialized)
struct AuthenticationTests {
    /// Members that configure authentication, and the Authorization header that results.
    private static let ways: [(Way, String)] = [
        (Way("basic", #""basic_auth": { "username": "user", "password": "pass" }"#), "Basic dXNlcjpwYXNz"),
        (Way("basic-file", #""basic_auth": { "username": "user", "password_file": "password" }"#), "Basic dXNlcjpwYXNz"),
        (Way("basic-odd", #""basic_auth": { "username": "üser", "password": "a:b c" }"#), "Basic w7xzZXI6YTpiIGM="),
        (Way("basic-empty", #""basic_auth": { "username": "user" }"#), "Basic dXNlcjo="),
        (Way("authorization", #""authorization": { "credentials": "t0ken" }"#), "Bearer t0ken"),
        (Way("authorization-type", #""authorization": { "type": "Token", "credentials": "t0ken" }"#), "Token t0ken"),
        (Way("authorization-file", #""authorization": { "credentials_file": "token" }"#), "Bearer t0ken"),
        (Way("bearer", #""bearer_token": "t0ken""#), "Bearer t0ken"),
        (Way("bearer-file", #""bearer_token_file": "token""#), "Bearer t0ken"),
        (Way("header", #""headers": { "authorization": "Custom t0ken" }"#), "Custom t0ken"),
    ]

    @Test("Each kind of authentication sends its header with the first request, and no secret is shown")
    func ways() throws {
        try Scenario.run { scenario in
            // Editors end files with a line feed.
            try scenario.write("pass\n", to: "password")
            try scenario.write("t0ken\n", to: "token")
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, Self.ways.map(\.0)) { _ in upstream.url }
            let theirs = "Authorization: Bearer theirs\r\n"
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1", headers: theirs).status == 200)
            #expect(try gateway.push(.numbered(1), headers: theirs).status == 200)
            #expect(try gateway.arrivals(2).count == Self.ways.count)
            for (way, header) in Self.ways {
                let requests = upstream.requests.filter { $0.target.hasPrefix("\(way.path)/") }
                #expect(requests.map { $0.header("Authorization") } == [[header], [header]], "\(way.name)")
            }
            try upstream.answer(401, body: "who are you")
            try gateway.send(1)
            try gateway.waitForOutcomes(3)
            let shown = gateway.log.lines + (try gateway.metrics().lines)
            #expect(shown.allSatisfy { !$0.contains("t0ken") && !$0.contains("pass:") && !$0.contains("dXNlcj") })
        }
    }

    @Test("http_headers can have several values, each of which is sent as its own line")
    func severalValues() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let members = #""headers": { "X-Zero": "0" }, "http_headers": { "X-One": "1", "X-Two": ["2", "zwei, deux"] }"#
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, members))
            try gateway.send(1)
            #expect(try gateway.push(.numbered(1)).status == 200)
            for request in try upstream.wait(count: 2) {
                #expect(["X-Zero", "X-One", "X-Two"].map(request.header) == [["0"], ["1"], ["2", "zwei, deux"]])
            }
            try gateway.waitForDeliveries(2)
        }
    }

    static let files = [
        (#""basic_auth": { "username": "user", "password_file": "secret" }"#, "Basic dXNlcjpuZXc="),
        (#""authorization": { "credentials_file": "secret" }"#, "Bearer new"),
        (#""bearer_token_file": "secret""#, "Bearer new"),
    ]

    @Test("A changed secret file is used without a restart, and no profile is lost", arguments: files)
    func rotation(members: String, expected: String) throws {
        try Scenario.run { scenario in
            try scenario.write("old", to: "secret")
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, members))
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            #expect(upstream.requests.allSatisfy { $0.header("Authorization") != [expected] })
            try scenario.replace("secret", text: "new\n")
            try gateway.send(until: "the new secret") { upstream.requests.last?.header("Authorization") == [expected] }
            let metrics = try gateway.metrics()
            #expect(metrics.delivered("up") == metrics.accepted("up"))
        }
    }

    @Test("A secret file that is missing for a while may delay profiles, but loses none")
    func away() throws {
        try Scenario.run { scenario in
            try scenario.write("old", to: "secret")
            let upstream = try Recorder(scenario)
            let members = #""bearer_token_file": "secret""#
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, members))
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try scenario.replace("elsewhere", by: "secret")
            try gateway.send(20, from: 1)
            try scenario.replace("secret", text: "new")
            try gateway.waitForDeliveries(21)
            try gateway.send(until: "the new secret") { upstream.requests.last?.header("Authorization") == ["Bearer new"] }
            let known = Set(upstream.requests.map { $0.header("Authorization") })
            #expect(known == [["Bearer old"], ["Bearer new"]], "nothing is sent without a secret")
            #expect(try gateway.metrics().dropped("up") == 0)
        }
    }

    @Test("401 and 403 reject the profile, and the receiver is failed until a delivery succeeds", arguments: [401, 403])
    func refused(status: Int) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.answer(status, body: "who are you")
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, #""bearer_token": "t0ken""#))
            try gateway.send(1)
            try gateway.waitForMetrics("failure") { $0.health("up") == 2 && $0.dropped("up", "rejected") == 1 }
            let connection = try RawConnection(gateway.adminPort)
            connection.send("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            let page = try connection.readResponse().text
            #expect(page.contains("up: ") && page.contains("HTTP \(status)"), "\(page)")
            #expect(!page.contains("t0ken"))
            try upstream.answer()
            try gateway.send(1)
            try gateway.waitForMetrics("health") { $0.health("up") == 0 && $0.delivered("up") == 1 }
            #expect(upstream.requests.count == 2)
        }
    }
}
