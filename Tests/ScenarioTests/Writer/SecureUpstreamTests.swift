import Testing

@testable import TestSupport

@Suite("TLS to an upstream", .serialized)
struct SecureUpstreamTests {
    /// An nginx with TLS in front of a recorder, and a gateway that has sent a profile and a Push by every way.
    private struct RunningSetup {
        let nginx: Nginx
        let gateway: GatewayProcess
        private let arriving: Int

        init(_ scenario: Scenario, _ ways: [Way], _ server: String = Nginx.tls(), listen: String = "ssl", host: String = "localhost") throws
        {
            let nginx = try Nginx(scenario, before: try Recorder(scenario).port, listen: listen, server: server)
            self.nginx = nginx
            arriving = 2 * ways.arriving.count
            gateway = try GatewayProcess(scenario, ways) { _ in "https://\(host):\(nginx.port)" }
            try gateway.send(1)
            #expect(try gateway.push(.numbered(1)).status == 200)
            #expect(try gateway.arrivals(2) == ways.arriving)
        }

        /// A member of each request that the upstream got by this way.
        func seen<T>(_ way: String, _ member: (Nginx.Request) -> T) throws -> [T] {
            try nginx.wait(count: arriving).filter { $0.target.hasPrefix("/\(way)/") }.map(member)
        }
    }

    /// A `tls_config` that trusts the scenario's authority.
    private func tls(_ more: String = "") -> String { #""tls_config": { "ca_file": "ca.pem", \#(more) }"# }

    @Test("A server's certificate must be signed by a trusted authority and match the host name")
    func verification() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.makeAuthority("foreign")
            let setup = try RunningSetup(
                scenario,
                [
                    Way("nobody", "", arrives: false), Way("file", tls()),
                    Way("pem", #""tls_config": { "ca_pem": "\#(try certificates.pem("ca.pem"))" }"#),
                    Way("stranger", #""tls_config": { "ca_file": "foreign.pem" }"#, arrives: false),
                    Way("skip", #""tls_config": { "insecure_skip_verify": true }"#),
                    Way("skip-stranger", #""tls_config": { "ca_file": "foreign.pem", "insecure_skip_verify": true }"#),
                    Way("other-name", tls(#""server_name": "profiles.example""#), arrives: false),
                ])
            #expect(try setup.seen("file", \.name) == ["localhost", "localhost"])
            #expect(try setup.seen("stranger", \.status) == [])
        }
    }

    @Test("server_name sets SNI and the name to verify, and Host stays that of the URL")
    func serverName() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.make("named", hosts: "DNS:profiles.example")
            let setup = try RunningSetup(
                scenario,
                [
                    Way("without", tls(), arrives: false), Way("with", tls(#""server_name": "profiles.example""#)),
                    Way("skip", tls(#""server_name": "elsewhere.example", "insecure_skip_verify": true"#)),
                ], Nginx.tls("named"), host: "127.0.0.1")
            #expect(try setup.seen("with", \.name) == ["profiles.example", "profiles.example"])
            #expect(try setup.seen("with", \.host) == Array(repeating: "127.0.0.1:\(setup.nginx.port)", count: 2))
            #expect(try setup.seen("skip", \.name) == ["elsewhere.example", "elsewhere.example"])
        }
    }

    @Test("A client certificate is used from files and from the config")
    func clientCertificate() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.makeAuthority("foreign")
            try certificates.make("stranger", by: "foreign")
            let (certificate, key) = (try certificates.pem("client.pem"), try certificates.pem("client.key"))
            let setup = try RunningSetup(
                scenario,
                [
                    Way("files", tls(#""cert_file": "client.pem", "key_file": "client.key""#)),
                    Way("texts", tls(#""cert_pem": "\#(certificate)", "key_pem": "\#(key)""#)),
                    Way("mixed", tls(#""cert_file": "client.pem", "key_pem": "\#(key)""#)),
                    Way("none", tls(), arrives: false),
                    Way("stranger", tls(#""cert_file": "stranger.pem", "key_file": "stranger.key""#), arrives: false),
                ], Nginx.tls("server", "ssl_client_certificate ca.pem; ssl_verify_client on;"))
            for way in ["files", "texts", "mixed"] {
                #expect(try setup.seen(way, \.verified) == ["SUCCESS", "SUCCESS"])
                #expect(try setup.seen(way, \.subject) == ["CN=client", "CN=client"])
            }
            // nginx answers these with 400 in HTML, which is final.
            #expect(try setup.gateway.metrics().dropped("none", "rejected") == 2)
            #expect(try setup.seen("none", \.verified) == ["NONE", "NONE"])
            #expect(try setup.seen("stranger", \.verified).allSatisfy { $0.hasPrefix("FAILED") })
        }
    }

    @Test("TLS versions below min_version are not used", arguments: [("TLSv1.2", true, false), ("TLSv1.3", true, true)])
    func versions(version: String, arrivesByDefault: Bool, arrivesBy13: Bool) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let setup = try RunningSetup(
                scenario,
                [
                    Way("default", tls(), arrives: arrivesByDefault), Way("tls12", tls(#""min_version": "TLS12""#)),
                    Way("tls13", tls(#""min_version": "TLS13""#), arrives: arrivesBy13),
                ], Nginx.tls("server", "ssl_protocols \(version);"))
            #expect(try setup.seen("default", \.tls) == [version, version])
        }
    }

    @Test("ALPN selects HTTP/2 where it is enabled and the server supports it", arguments: ["ssl", "ssl http2"])
    func version(listen: String) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let setup = try RunningSetup(
                scenario,
                [Way("default", tls()), Way("on", "\(tls()), \"enable_http2\": true"), Way("off", "\(tls()), \"enable_http2\": false")],
                listen: listen)
            let best = listen == "ssl" ? "HTTP/1.1" : "HTTP/2.0"
            #expect(try setup.seen("default", \.version) == [best, best])
            #expect(try setup.seen("on", \.version) == [best, best])
            #expect(try setup.seen("off", \.version) == ["HTTP/1.1", "HTTP/1.1"])
        }
    }

    @Test("Without TLS HTTP/1.1 is used, without an upgrade")
    func plain() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(upstream.url, "\"enable_http2\": true"))
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            #expect(upstream.requests.allSatisfy { $0.header("Upgrade").isEmpty && $0.header("Connection").isEmpty })
        }
    }

    @Test(
        "Every byte arrives once over TLS, by HTTP/1.1 and HTTP/2, also when the server limits requests per connection",
        arguments: [("ssl", 100_000), ("ssl", 3), ("ssl http2", 100_000), ("ssl http2", 5)])
    func many(listen: String, requestsPerConnection: Int) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let nginx = try Nginx(
                scenario, before: upstream.port, listen: listen, server: Nginx.tls("server", "keepalive_requests \(requestsPerConnection);")
            )
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(nginx.secureURL, tls(), more: "\"max_in_flight\": 8,"))
            try gateway.send(300)
            let large = try scenario.write(String(repeating: "main;work 1\n", count: 400_000), to: "body")
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=large", file: large).status == 200)
            try gateway.waitForDeliveries(301)
            let texts = upstream.requests.filter { $0.text != nil }.compactMap(\.text)
            #expect(texts.reduce(into: [:]) { $0[$1, default: 0] += 1 } == GatewayProcess.bodies(0..<300))
            #expect(upstream.requests.map(\.sha256).contains(try Fixture.sha256(ofFile: large, scenario)))
            #expect(try gateway.metrics().retries() == 0)
            let connections = Set(try nginx.requests.map(\.connection)).count
            #expect(connections >= 301 / requestsPerConnection && connections <= 8 + 301 / requestsPerConnection)
        }
    }

    @Test("A renewed client certificate is used without a restart")
    func renewal() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let verify = "ssl_client_certificate ca.pem; ssl_verify_client on;"
            let nginx = try Nginx(scenario, listen: "ssl", location: "return 200;", server: Nginx.tls("server", verify))
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(nginx.secureURL, tls(#""cert_file": "client.pem", "key_file": "client.key""#)))
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try certificates.make("renewed")
            try scenario.replace("client.pem", by: "renewed.pem")
            // The certificate is new while its key is still the old one.
            try gateway.send(10, from: 1)
            try scenario.replace("client.key", by: "renewed.key")
            try gateway.waitForDeliveries(11)
            try gateway.send(until: "the renewed certificate") { try nginx.requests.last?.subject == "CN=renewed" }
            #expect(try nginx.requests.first?.subject == "CN=client")
            let metrics = try gateway.metrics()
            #expect(metrics.delivered("up") == metrics.accepted("up"))
        }
    }

    @Test("After an authority is replaced, only the new one is trusted")
    func newAuthority() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.makeAuthority("next")
            try certificates.make("later", by: "next")
            let old = try Nginx(scenario, listen: "ssl", location: "return 200;", server: Nginx.tls())
            let new = try Nginx(scenario, listen: "ssl", location: "return 200;", server: Nginx.tls("later"))
            func entry(_ nginx: Nginx) -> String { ReceiverEntry.endpoint(nginx.secureURL, tls()) }
            let gateway = try GatewayProcess(scenario, receivers: ["old": entry(old), "new": entry(new)])
            try gateway.send(1)
            try gateway.waitForMetrics("the old server's profile, and a retry") { $0.delivered("old") == 1 && $0.retries("new") > 0 }
            try scenario.replace("ca.pem", by: "next.pem")
            try gateway.waitForMetrics("the new server's profile") { $0.delivered("new") == 1 }
            try gateway.send(1)
            try gateway.waitForMetrics("both again") { $0.delivered("new") == 2 && ($0.retries("old") > 0 || $0.dropped("old") > 0) }
        }
    }
}
