import Testing

@Suite("An upstream's connections are used again", .serialized)
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
        "A server that closes its connections between requests costs no retry and no error",
        arguments: ["keepalive_requests 1;", "keepalive_requests 2;", "keepalive_requests 3;", "keepalive_timeout 1ms;"])
    func closedBetween(directive: String) throws {
        try Scenario.run { scenario in
            let nginx = try Nginx(scenario, location: "return 200;", server: directive)
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint(nginx.url))
            // One after the other, so that each finds the connection idle or gone; then many at once.
            for number in 1...50 {
                try gateway.send(1, from: number)
                try gateway.waitForDeliveries(number)
            }
            try gateway.send(450, from: 50)
            try gateway.waitForDeliveries(500)
            #expect(try gateway.metrics().retries() == 0)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("level=error") && !$0.contains("level=warning") })
            #expect(try nginx.requests.count == 500)
        }
    }
}
