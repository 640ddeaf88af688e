import Foundation
import Testing

@testable import TestSupport

@Suite("Hostile senders and other senders", .serialized)
struct HostileTests {
    /// Runs a test against a gateway with one receiver, which delivers at once.
    private func run(
        http: String = "", more: String = "", top: String = "", queue: String = "", _ body: (Scenario, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let listener = GatewayProcess.listener(["console"], http: http, more: more)
            try body(
                scenario,
                try GatewayProcess(
                    scenario,
                    GatewayProcess.config(
                        listeners: listener, receivers: ["console": ReceiverEntry.console("json", more: queue)], more: top)))
        }
    }

    @Test("Empty TLS records do not keep the event loop from other connections")
    func keyUpdates() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let source = "\(Project.servers)/key_updates.c"
            let compile = try scenario.start([
                "gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "key_updates", source, "-lssl", "-lcrypto",
            ])
            #expect(try compile.waitForExit() == 0, "\(compile.errors.lines)")
            let listeners =
                GatewayProcess.listener(["console"]) + GatewayProcess.listener(["console"], more: Certificates.block(), name: "tls")
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listeners, receivers: ["console": ReceiverEntry.console()]))
            let port = try #require(gateway.ports["tls"])
            let request = "POST /ingest?name=flood HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            let flood = try scenario.start([scenario.path("key_updates"), "\(port)", "100000", request])
            try flood.output.wait(for: "ready")
            flood.write("go")
            let other = try RawConnection(gateway.port)
            for _ in 0..<5 { #expect(try other.post("/ingest?name=other", "a 1").status == 200) }
            #expect(flood.output.lines == ["ready"], "what others sent was not behind the flood")
            try flood.output.wait(for: "HTTP/1.1 200 OK")
            #expect(try Curl(scenario, ["-d", "x"] + certificates.curl() + ["https://localhost:\(port)/ingest?name=a"]).status == 200)
        }
    }

    @Test("Bodies of refused requests are discarded and use no max_in_flight_bytes")
    func refusedBodies() throws {
        try run(http: "\"server_read_timeout\": \"1h\",", top: "\"limits\": { \"max_in_flight_bytes\": \"64KiB\" },") { scenario, gateway in
            let strangers = try (0..<8).map { _ in
                let stranger = try RawConnection(gateway.port)
                stranger.send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
                stranger.send([UInt8](repeating: 120, count: 199_999))
                return stranger
            }
            let file = try scenario.write(String(repeating: "main;work 1\n", count: 50_000), to: "body")
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file).status == 200)
            for stranger in strangers {
                stranger.send("x")
                #expect(try stranger.readResponse().status == 404)
            }
        }
    }

    @Test("Passwords that wait to be checked do not delay the shutdown")
    func shutdown() throws {
        try Scenario.run { scenario in
            // The hash is so slow that checking all of them would take longer than this test waits.
            try scenario.write(try AccessTests.user(scenario, "alice", "a", "$2b$15$abcdefghijklmnopqrstuu"), to: "users")
            let listener = GatewayProcess.listener(["console"], more: "\"auth\": { \"basic\": { \"users_file\": \"users\" } },")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: listener, receivers: ["console": ReceiverEntry.console()], more: "\"shutdown_timeout\": \"1s\","))
            let guessers = try (0..<60).map { number in
                let guesser = try RawConnection(gateway.port)
                let guess = Data("user-\(number):x".utf8).base64EncodedString()
                guesser.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic \(guess)\r\nContent-Length: 0\r\n\r\n")
                return guesser
            }
            try gateway.waitForMetrics("all of them") { $0.connections() == guessers.count }
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("At shutdown, a large Push is delivered or its sender gets 503")
    func largeAtShutdown() throws {
        let limits = "\"limits\": { \"max_decompressed_size\": \"2GiB\", \"max_in_flight_bytes\": \"3GiB\" },"
        // A Push that is decoded before the end begins is accepted, so the queue must have room to deliver it.
        let queue = "\"queue\": { \"max_bytes\": \"2GiB\" },"
        try run(top: limits + "\"shutdown_timeout\": \"1s\",", queue: queue) { scenario, gateway in
            let bytes = try LargePushTests.bomb(scenario, 300_000_000)
            let senders = try (0..<4).map { _ in
                let sender = try RawConnection(gateway.port)
                LargePushTests.begin(sender, bytes)
                return sender
            }
            try gateway.waitForMetrics("their bodies") { $0["gateway_received_bytes_total{listener=\"default\"}"] == 4 * bytes.count }
            #expect(try gateway.stop() == 0)
            let statuses = try senders.map { try $0.readResponse().status }
            #expect(Set(statuses).isSubset(of: [200, 503]))
            #expect(gateway.process.output.lines.count == statuses.count { $0 == 200 })
        }
    }
}
