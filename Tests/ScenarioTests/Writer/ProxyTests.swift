import Testing

@testable import TestSupport

@Suite("Proxies in front of an upstream", .serialized)
struct ProxyTests {
    private static let trust = #""tls_config": { "ca_file": "ca.pem" }"#

    @Test("Requests use the proxy of proxy_url with its password, except for hosts in no_proxy")
    func proxies() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let nginx = try Nginx(scenario, before: upstream.port, listen: "ssl", server: Nginx.tls())
            let (open, closed) = (try Proxy(scenario), try Proxy(scenario, credentials: "user secret"))
            let basic = #""proxy_connect_header": { "Proxy-Authorization": ["Basic dXNlcjpzZWNyZXQ="] }"#
            func through(_ proxy: Proxy, _ more: String = "", as user: String = "") -> String {
                #""proxy_url": "http://\#(user)\#(proxy.address)", \#(more)"#
            }
            let ways = [
                Way("plain", through(open)), Way("tls", through(open, Self.trust)),
                Way("plain-password", through(closed, as: "user:secret@")),
                Way("tls-password", through(closed, Self.trust, as: "user:secret@")),
                Way("plain-nobody", through(closed), arrives: false), Way("tls-nobody", through(closed, Self.trust), arrives: false),
                Way("plain-stranger", through(closed, as: "user:s3cret@"), arrives: false),
                Way("tls-header", through(closed, "\(Self.trust), \(basic)")),
                Way("plain-direct", through(closed, #""no_proxy": "profiles.example,127.0.0.1""#)),
                Way("tls-direct", through(closed, #"\#(Self.trust), "no_proxy": "profiles.example, localhost""#)),
                Way("plain-elsewhere", through(open, #""no_proxy": "profiles.example,127.0.0.2""#)),
            ]
            let gateway = try GatewayProcess(scenario, ways) { $0.name.hasPrefix("tls") ? nginx.secureURL : upstream.url }
            try gateway.send(1)
            #expect(try gateway.push(.numbered(1)).status == 200)
            #expect(try gateway.arrivals(2) == ways.arriving)

            let asked = Set(try open.requests)
            let texts = [("plain", upstream.url), ("plain-elsewhere", upstream.url)].flatMap { name, url in
                ["POST \(url)/\(name)/ingest?name=app", "POST \(url)/\(name)\(GatewayProcess.pushPath)"]
            }
            #expect(asked == Set(texts + ["CONNECT localhost:\(nginx.port)"]))
            #expect(try closed.requests.allSatisfy { !$0.contains("direct") })
            for request in upstream.requests {
                #expect(request.header("Via").isEmpty == (request.target.contains("direct") || request.target.hasPrefix("/tls")))
                #expect(request.header("Proxy-Authorization").isEmpty && request.header("Proxy-Connection").isEmpty)
            }
            #expect(gateway.log.lines.allSatisfy { !$0.contains("secret") && !$0.contains("s3cret") }, "no secret reaches the log")
        }
    }

    @Test("A tunnel leads to the host of the URL, also with another server_name")
    func serverName() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.make("named", hosts: "DNS:profiles.example")
            let nginx = try Nginx(scenario, before: try Recorder(scenario).port, listen: "ssl http2", server: Nginx.tls("named"))
            let proxy = try Proxy(scenario)
            let members =
                #""tls_config": { "ca_file": "ca.pem", "server_name": "profiles.example" }, "proxy_url": "http://\#(proxy.address)""#
            let gateway = try GatewayProcess(scenario, [Way("up", members)]) { _ in nginx.secureURL }
            try gateway.send(1)
            #expect(try gateway.arrivals() == ["up"])
            #expect(try proxy.requests == ["CONNECT localhost:\(nginx.port)"])
            let request = try #require(try nginx.requests.first)
            #expect((request.name, request.host) == ("profiles.example", "localhost:\(nginx.port)"))
        }
    }

    @Test("A CONNECT request has the proxy's headers, and only the request inside the tunnel has the upstream's")
    func tunnelHeaders() throws {
        try Scenario.run { scenario in
            let (tunnels, plain) = (try Recorder(scenario), try Recorder(scenario))
            try tunnels.answer(502)
            func members(_ proxy: Recorder) -> String {
                """
                "proxy_url": "\(proxy.url)", "proxy_connect_header": { "X-One": "1", "X-Two": ["2", "zwei"] },
                "headers": { "X-Mine": "mine" }, "bearer_token": "t0ken"
                """
            }
            let ways = [Way("tls", members(tunnels), arrives: false), Way("plain", members(plain))]
            // Only the proxy has to know this name.
            let gateway = try GatewayProcess(scenario, ways) { "\($0.name == "tls" ? "https" : "http")://profiles.example" }
            try gateway.send(1)
            #expect(try gateway.arrivals() == ways.arriving)
            let tunnel = try #require(tunnels.requests.first)
            #expect((tunnel.method, tunnel.target) == ("CONNECT", "profiles.example:443"))
            #expect(["X-One", "X-Two"].map(tunnel.header) == [["1"], ["2", "zwei"]])
            #expect(["X-Mine", "Authorization", "Content-Type"].allSatisfy { tunnel.header($0).isEmpty })
            let request = try #require(plain.requests.first)
            #expect((request.method, request.target) == ("POST", "http://profiles.example/plain/ingest?name=app"))
            #expect((request.header("X-Mine"), request.header("Authorization")) == (["mine"], ["Bearer t0ken"]))
            #expect(request.header("X-One").isEmpty, "the proxy passes it on to the upstream")
        }
    }

    @Test("Only proxy_from_environment makes an endpoint use the proxy variables of the environment")
    func environment() throws {
        try Scenario.run { scenario in
            let (upstream, proxy) = (try Recorder(scenario), try Recorder(scenario))
            let ways = [
                Way("yes", #""proxy_from_environment": true"#), Way("no", #""proxy_from_environment": false"#), Way("absent", ""),
                Way("except", #""proxy_from_environment": true"#),
            ]
            // libcurl resolves these names by itself.
            let gateway = try GatewayProcess(
                scenario, ways, to: { "http://\($0.name).localhost:\(upstream.port)" },
                environment: ["http_proxy": proxy.url, "no_proxy": "except.localhost"])
            try gateway.send(1)
            #expect(try gateway.arrivals() == ways.arriving)
            #expect(proxy.requests.map(\.target) == ["http://yes.localhost:\(upstream.port)/yes/ingest?name=app"])
            #expect(Set(upstream.requests.map(\.target)) == ["/no/ingest?name=app", "/absent/ingest?name=app", "/except/ingest?name=app"])
        }
    }

    @Test("An unreachable proxy causes a retry")
    func absent() throws {
        try Scenario.run { scenario in
            let (upstream, proxy) = (try Recorder(scenario), try Recorder(scenario))
            try proxy.refuse()
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, "\"proxy_url\": \"\(proxy.url)\""))
            try gateway.send(1)
            try gateway.waitForMetrics("a retry") { $0.retries() > 0 }
            #expect(upstream.requests.isEmpty)
            try proxy.listen()
            try gateway.waitForDeliveries(1)
        }
    }
}
