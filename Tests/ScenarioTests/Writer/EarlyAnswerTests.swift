import Testing

@testable import TestSupport

@Suite("Upstreams that answer before they read the body", .serialized)
struct EarlyAnswerTests {
    /// nginx's `return` answers without reading the body.
    private static let answers = ["400 ''", "401 '<html>who are you</html>'", "403 $nothing", "404 $nothing", "413 $nothing"]

    @Test(
        "An early answer counts, over each kind of connection and for any body", arguments: ["", "ssl", "ssl http2"], [20, 8 << 20])
    func rejected(listen: String, size: Int) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let locations = Self.answers.map { "location /\($0.prefix(3))/ { return \($0); }" }.joined(separator: "\n")
            let tls = listen.isEmpty ? "" : Nginx.tls()
            let nginx = try Nginx(scenario, listen: listen, location: "return 404;", server: "\(tls) set $nothing ''; \(locations)")
            let ways = Self.answers.map { Way(String($0.prefix(3)), #""tls_config": { "ca_file": "ca.pem" }"#, arrives: false) }
            let gateway = try GatewayProcess(scenario, ways) { _ in listen.isEmpty ? nginx.url : nginx.secureURL }
            let file = try scenario.write(String(repeating: "a;b 1\n", count: size / 6), to: "body")
            // Profiles are sent one by one, because a busy connection may deliver a small body together with its head.
            for number in 1...5 {
                #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file).status == 200)
                try gateway.waitForOutcomes(number)
            }
            let metrics = try gateway.metrics()
            for way in ways {
                #expect(metrics.dropped(way.name, "rejected") == 5, "\(way.name)")
                #expect(metrics.retries(way.name) == 0, "\(way.name)")
            }
        }
    }

    @Test("An early redirect is followed", arguments: ["", "ssl", "ssl http2"], [20, 8 << 20])
    func redirected(listen: String, size: Int) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let tls = listen.isEmpty ? "" : Nginx.tls()
            let nginx = try Nginx(
                scenario, before: upstream.port, listen: listen,
                server: "\(tls) absolute_redirect off; location /from/ { return 308 /to$request_uri; }")
            let url = listen.isEmpty ? nginx.url : nginx.secureURL
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint("\(url)/from", #""tls_config": { "ca_file": "ca.pem" }"#))
            let file = try scenario.write(String(repeating: "a;b 1\n", count: size / 6), to: "body")
            for number in 1...5 {
                #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file).status == 200)
                try gateway.waitForDeliveries(number)
            }
            #expect(try gateway.metrics().retries() == 0)
            #expect(Set(upstream.requests.map(\.sha256)) == [try Fixture.sha256(ofFile: file, scenario)])
            #expect(upstream.requests.count == 5)
        }
    }
}
