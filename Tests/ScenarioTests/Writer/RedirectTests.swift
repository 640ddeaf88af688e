import Testing

@testable import TestSupport

@Suite("Redirects", .serialized)
struct RedirectTests {
    @Test("301, 302, 307 and 308 are followed with method, body and tenant, but 303 is not, nor any with follow_redirects off")
    func statuses() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let ways =
                [301, 302, 303, 307, 308].map { Way("\($0)", "", arrives: $0 != 303) }
                + [Way("off", "\"follow_redirects\": false", arrives: false)]
            let locations = ways.map { way in
                let status = way.name == "off" ? "307" : way.name
                return "location /\(way.name)/ { return \(status) http://127.0.0.1:\(upstream.port)/to$request_uri; }"
            }
            let nginx = try Nginx(scenario, location: "return 404;", server: locations.joined(separator: "\n"))
            let gateway = try GatewayProcess(scenario, ways) { _ in nginx.url }
            let tenant = "X-Scope-OrgID: team-a\r\n"
            #expect(try RawConnection(gateway.port).post("/ingest?name=app", "a 1", headers: tenant).status == 200)
            #expect(try gateway.push(.numbered(1), headers: tenant).status == 200)
            #expect(try gateway.arrivals(2) == ways.arriving)
            let metrics = try gateway.metrics()
            for name in ["303", "off"] { #expect(metrics.dropped(name, "rejected") == 2) }
            for way in ways {
                let requests = upstream.requests.filter { $0.target.hasPrefix("/to\(way.path)/") }
                #expect(requests.count == (way.arrives ? 2 : 0))
                #expect(requests.allSatisfy { $0.method == "POST" && $0.header("X-Scope-OrgID") == ["team-a"] })
                for request in requests {
                    let isPush = request.target == "/to\(way.path)\(GatewayProcess.pushPath)"
                    #expect(isPush || request.target == "/to\(way.path)/ingest?name=app")
                    #expect(request.header("Content-Type") == (isPush ? ["application/proto"] : []))
                    if isPush { #expect(try request.series == [.numbered(1)]) } else { #expect(request.text == "a 1") }
                }
            }
        }
    }

    @Test("At most ten redirects are followed, also relative ones")
    func hops() throws {
        try Scenario.run { scenario in
            let nginx = try Nginx(
                scenario, location: "return 200;",
                server: "absolute_redirect off; location ~ ^/hop(x*)x/ { return 307 /hop$1/ingest; }")
            let ways = [
                Way("hop" + String(repeating: "x", count: 10), ""), Way("hop" + String(repeating: "x", count: 11), "", arrives: false),
            ]
            let gateway = try GatewayProcess(scenario, ways) { _ in nginx.url }
            try gateway.send(1)
            #expect(try gateway.arrivals() == ways.arriving)
        }
    }

    @Test(
        "Redirect loops and unusable Locations end the attempt",
        arguments: ["/loop", "ftp://127.0.0.1/", "http://", "", ":"])
    func unusable(location: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.answer(307, headers: location.isEmpty ? [] : [["Location", location]])
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, more: ReceiverEntry.oneRetry))
            try gateway.send(1)
            let metrics = try gateway.waitForOutcomes()
            #expect(metrics.dropped("up") == 1)
            #expect(upstream.requests.count <= 2 * 11)
        }
    }

    /// Endpoints with secrets in headers, each in another way.
    private static let secretWays = [
        Way("headers", #""headers": { "Authorization": "Bearer t0ken", "Cookie": "c00kie" }"#),
        Way("several", #""http_headers": { "authorization": ["Bearer t0ken"], "cookie": "c00kie" }"#),
        Way("basic", #""basic_auth": { "username": "user", "password": "pass" }, "headers": { "Cookie": "c00kie" }"#),
        Way("bearer", #""bearer_token": "t0ken", "headers": { "Cookie": "c00kie" }"#),
    ]

    @Test("Secrets are sent along to the same host and port, but not to another port", arguments: [false, true])
    func secrets(isOtherPort: Bool) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let port = isOtherPort ? "\(upstream.port)" : "$server_port"
            let nginx = try Nginx(
                scenario, before: upstream.port,
                server: "location /from/ { return 307 http://127.0.0.1:\(port)/to$request_uri; }")
            let gateway = try GatewayProcess(scenario, Self.secretWays) { _ in "\(nginx.url)/from" }
            for number in 1...2 {
                try gateway.send(1)
                #expect(try gateway.arrivals(number) == Self.secretWays.arriving)
            }
            #expect(upstream.requests.count == 2 * Self.secretWays.count)
            for request in upstream.requests {
                #expect(request.header("Authorization").isEmpty == isOtherPort && request.header("Cookie").isEmpty == isOtherPort)
                #expect(request.target.hasPrefix("/to/from/"))
            }
            let first = try nginx.requests.filter { $0.target.hasPrefix("/from/") }
            #expect(first.count == 2 * Self.secretWays.count)
            #expect(first.allSatisfy { !$0.authorization.isEmpty }, "a detour is forgotten afterwards")
        }
    }

    @Test(
        "A redirect to another host is refused and reported", arguments: ["localhost", "127.0.0.2", "LOCALHOST.", "elsewhere.invalid"])
    func otherHost(host: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario, host: host == "127.0.0.2" ? host : "127.0.0.1")
            let nginx = try Nginx(scenario, location: "return 308 http://\(host):\(upstream.port)/to$request_uri;")
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(nginx.url, Self.secretWays[3].members, more: ReceiverEntry.oneRetry))
            try gateway.send(1)
            let metrics = try gateway.waitForOutcomes()
            #expect(metrics.dropped("up", "retries_exhausted") == 1)
            #expect(upstream.requests.isEmpty)
            let status = try gateway.page("/api/v1/status").text
            #expect(status.contains("HTTP 308: redirects to another host") && status.contains("is not followed there"), "\(status)")
            #expect(status.contains(host) && status.contains("degraded"), "\(status)")
        }
    }

    @Test("Redirects from http to https of the same host carry no credentials or certificate, and those to http are not followed")
    func schemes() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let tls = #""tls_config": { "ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key" }"#
            let asking = "ssl_client_certificate ca.pem; ssl_verify_client optional; "
            let secure = try Nginx(
                scenario, before: upstream.port, listen: "ssl",
                server: Nginx.tls() + asking + "location /down/ { return 307 http://127.0.0.1:\(upstream.port)$request_uri; }")
            let plain = try Nginx(scenario, location: "return 308 https://localhost:\(secure.port)$request_uri;")
            let ways = [
                Way("up", "\(tls), \"bearer_token\": \"t0ken\", \"headers\": { \"X-Key\": \"k3y\" }"),
                Way("straight", "\(tls), \"bearer_token\": \"t0ken\""), Way("down", tls, arrives: false),
            ]
            let gateway = try GatewayProcess(scenario, ways) {
                $0.name == "up" ? "http://localhost:\(plain.port)" : secure.secureURL
            }
            for number in 1...2 {
                try gateway.send(1)
                #expect(try gateway.arrivals(number) == ways.arriving)
            }
            #expect(upstream.requests.count == 4 && upstream.requests.allSatisfy { $0.header("X-Key") == [] })
            let seen = try secure.requests.filter { !$0.target.hasPrefix("/down/") }
            #expect(seen.count == 4)
            for request in seen {
                let isStraight = request.target.hasPrefix("/straight/")
                #expect(isStraight || request.target.hasPrefix("/up/"))
                #expect(request.authorization == (isStraight ? "Bearer t0ken" : ""))
                #expect(request.verified == (isStraight ? "SUCCESS" : "NONE"))
            }
        }
    }
}
