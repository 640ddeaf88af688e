import Testing

@testable import TestSupport

@Suite("An upstream that answers before it has read the body", .serialized)
struct EarlyAnswerTests {
    /// nginx's `return` neither reads a body nor waits for it.
    private static let answers = ["400 ''", "401 '<html>who are you</html>'", "403 $nothing", "404 $nothing", "413 $nothing"]

    @Test(
        "Its answer counts, over each kind of connection, however large the body is", arguments: ["", "ssl", "ssl http2"], [20, 8 << 20])
    func rejected(listen: String, size: Int) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let locations = Self.answers.map { "location /\($0.prefix(3))/ { return \($0); }" }.joined(separator: "\n")
            let tls = listen.isEmpty ? "" : Nginx.tls()
            let nginx = try Nginx(scenario, listen: listen, location: "return 404;", server: "\(tls) set $nothing ''; \(locations)")
            let ways = Self.answers.map { Way(String($0.prefix(3)), #""tls_config": { "ca_file": "ca.pem" }"#, arrives: false) }
            let gateway = try GatewayProcess(scenario, ways) { _ in listen.isEmpty ? nginx.url : nginx.secureURL }
            let file = try scenario.write(String(repeating: "a;b 1\n", count: size / 6), to: "body")
            // One after the other, since a busy connection may bring a small body together with its head.
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

    @Test("So does where it sends a profile to", arguments: ["", "ssl", "ssl http2"], [20, 8 << 20])
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
