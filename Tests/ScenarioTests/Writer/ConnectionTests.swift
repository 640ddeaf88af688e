import Testing

@testable import TestSupport

@Suite("Reuse of upstream connections", .serialized)
struct ConnectionTests {
    @Test("10,000 profiles to one endpoint open no more connections than max_in_flight")
    func reuse() throws {
        try Scenario.run { scenario in
            let nginx = try Nginx(scenario, location: "return 200;", server: "keepalive_requests 1000000;")
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(nginx.url, more: "\"max_in_flight\": 8,"))
            try gateway.send(10_000)
            try gateway.waitForDeliveries(10_000)
            let requests = try nginx.requests
            #expect(requests.count == 10_000)
            #expect(Set(requests.map(\.connection)).count <= 8)
        }
    }

    @Test(
        "A server that closes connections between requests causes no retry and no error",
        arguments: [
            ("", "keepalive_requests 1;"), ("", "keepalive_requests 2;"), ("", "keepalive_requests 3;"), ("", "keepalive_timeout 1ms;"),
            ("libcurl", "keepalive_requests 2;"), ("libcurl", "keepalive_timeout 1ms;"),
            ("ssl", "keepalive_requests 2;"), ("ssl", "keepalive_timeout 1ms;"),
        ])
    func closedBetween(kind: String, directive: String) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try Recorder(scenario)
            let isSecure = kind == "ssl"
            let nginx = try Nginx(
                scenario, before: upstream.port, listen: isSecure ? kind : "", server: "\(isSecure ? Nginx.tls() : "") \(directive)")
            let members = kind == "libcurl" ? #""client": "libcurl""# : #""tls_config": { "ca_file": "ca.pem" }"#
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(isSecure ? nginx.secureURL : nginx.url, members))
            // Sequential profiles find the connection idle or closed; many at once follow.
            for number in 0..<50 {
                try gateway.send(1, from: number)
                try gateway.waitForDeliveries(number + 1)
            }
            try gateway.send(250, from: 50)
            try gateway.waitForDeliveries(300)
            #expect(try gateway.metrics().retries() == 0)
            #expect(gateway.log.lines.filter { !$0.contains("level=info") } == [])
            #expect(upstream.texts == GatewayProcess.bodies(0..<300))
        }
    }

    @Test("Profiles, bytes, attempts, latency and connections are counted by endpoint", arguments: ["auto", "libcurl"])
    func counters(client: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(upstream.url, #""client": "\#(client)""#, more: ReceiverEntry.oneRetry))
            for (number, target) in ["/ingest?name=a", "/ingest?name=a&answer=400", "/ingest?name=a&answer=500,200"].enumerated() {
                #expect(try RawConnection(gateway.port).post(target, "main;work 1").status == 200)
                try gateway.waitForOutcomes(number + 1)
            }
            let metrics = try gateway.metrics()
            func count(_ name: String) -> Int { metrics["pyroscope_write_\(name){receiver=\"up\",endpoint=\"up\"}"] }
            #expect(["sent", "dropped"].map { count("\($0)_profiles_total") } == [2, 1])
            #expect(["sent", "dropped"].map { count("\($0)_bytes_total") } == [22, 11])
            #expect([count("retries_total"), count("latency_count")] == [1, 4])
            #expect(["opened", "reused"].map { count("connections_\($0)_total") } == [1, 3])
            // The counter includes heads and bodies as sent.
            let heads = upstream.requests.map { request in
                "POST \(request.target) HTTP/1.1\r\n".utf8.count
                    + request.headers.map { $0[0].utf8.count + $0[1].utf8.count + 4 }.reduce(2, +)
            }
            #expect(count("wire_bytes_total") == heads.reduce(4 * 11, +))
        }
    }
}
