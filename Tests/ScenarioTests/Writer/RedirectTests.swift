import Testing

@Suite("Redirects", .serialized)
struct RedirectTests {
    @Test("301, 302, 307 and 308 are followed with the same method, body and tenant; 303 is not, nor anything where the config says so")
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

    @Test("Ten hops are followed, relative ones too, and no more")
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
        "A loop ends, and so does a Location that is no URL, that is another scheme's, or that is absent",
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

    @Test("Secrets stay with the host that they are for", arguments: [("127.0.0.1", true), ("localhost", false)])
    func secrets(host: String, stay: Bool) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            // To the same server: only its name is another one, or not.
            let nginx = try Nginx(
                scenario, before: upstream.port,
                server: "location /from/ { return 307 http://\(host):$server_port/to$request_uri; }")
            let ways = [
                Way("headers", #""headers": { "Authorization": "Bearer t0ken", "Cookie": "c00kie" }"#),
                Way("several", #""http_headers": { "authorization": ["Bearer t0ken"], "cookie": "c00kie" }"#),
                Way("basic", #""basic_auth": { "username": "user", "password": "pass" }, "headers": { "Cookie": "c00kie" }"#),
                Way("bearer", #""bearer_token": "t0ken", "headers": { "Cookie": "c00kie" }"#),
            ]
            let gateway = try GatewayProcess(scenario, ways) { _ in "\(nginx.url)/from" }
            for number in 1...2 {
                try gateway.send(1)
                #expect(try gateway.arrivals(number) == ways.arriving)
            }
            #expect(upstream.requests.count == 2 * ways.count)
            #expect(upstream.requests.allSatisfy { $0.header("Authorization").isEmpty != stay && $0.header("Cookie").isEmpty != stay })
            #expect(upstream.requests.allSatisfy { $0.target.hasPrefix("/to/from/") })
            let first = try nginx.requests.filter { $0.target.hasPrefix("/from/") }
            #expect(first.count == 2 * ways.count && first.allSatisfy { !$0.authorization.isEmpty }, "a detour is forgotten afterwards")
        }
    }

    @Test("http leads to https, and https never to http")
    func schemes() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let trust = #""tls_config": { "ca_file": "ca.pem" }"#
            let secure = try Nginx(
                scenario, before: upstream.port, listen: "ssl",
                server: Nginx.tls() + "location /down/ { return 307 http://127.0.0.1:\(upstream.port)$request_uri; }")
            let plain = try Nginx(scenario, location: "return 308 https://localhost:\(secure.port)$request_uri;")
            let ways = [Way("up", "\(trust), \"bearer_token\": \"t0ken\""), Way("down", trust, arrives: false)]
            let gateway = try GatewayProcess(scenario, ways) { $0.name == "up" ? "http://localhost:\(plain.port)" : secure.secureURL }
            try gateway.send(1)
            #expect(try gateway.arrivals() == ways.arriving)
            #expect(upstream.requests.map(\.target) == ["/up/ingest?name=app"])
            #expect(upstream.requests.map(\.text) == [GatewayProcess.body(0)])
            #expect(upstream.requests.map { $0.header("Authorization") } == [["Bearer t0ken"]], "the host is the same one")
        }
    }
}
