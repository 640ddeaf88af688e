import Foundation
import Testing

@testable import TestSupport

@Suite("Limits on the connections and unfinished heads of senders", .serialized)
struct ConnectionLimitTests {
    /// How many connections this limit has refused.
    private static func refused(_ metrics: Metrics, _ limit: String) -> Int {
        metrics["gateway_connections_refused_total{listener=\"default\",limit=\"\(limit)\"}"]
    }

    /// A config with this `conn_limit_per_address`.
    private static func config(_ limit: Int, tls: String = "") -> String {
        GatewayProcess.config(
            listeners: GatewayProcess.listener(["console"], http: "\"conn_limit_per_address\": \(limit),", more: tls),
            receivers: ["console": ReceiverEntry.console()])
    }

    @Test("Each address has its own conn_limit_per_address, and a reload changes it")
    func perAddress() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, Self.config(3))
            func post(_ connection: RawConnection) throws -> Int { try connection.post("/ingest?name=a", "a 1").status }
            var own = try (0..<3).map { _ in try RawConnection(gateway.port, from: 2) }
            for connection in own { #expect(try post(connection) == 200) }
            let excess = try RawConnection(gateway.port, from: 2)
            let answer = try excess.readResponse()
            #expect((answer.status, answer.header("Retry-After")) == (503, "1"))
            #expect(answer.text.contains("conn_limit_per_address is 3"))
            #expect(try post(try RawConnection(gateway.port, from: 3)) == 200)
            for connection in own { #expect(try post(connection) == 200) }

            own.removeLast().close()
            try gateway.waitForMetrics("two of them") { $0.connections() == 2 }
            own.append(try RawConnection(gateway.port, from: 2))
            #expect(try post(own[2]) == 200)

            // Connections that were opened without a limit count too.
            try gateway.reload(Self.config(0), scenario)
            own += try (0..<3).map { _ in try RawConnection(gateway.port, from: 2) }
            for connection in own { #expect(try post(connection) == 200) }
            try gateway.reload(Self.config(6), scenario)
            #expect(try RawConnection(gateway.port, from: 2).readResponse().status == 503)
            for connection in own { #expect(try post(connection) == 200) }
            #expect(Self.refused(try gateway.metrics(), "conn_limit_per_address") == 2)
            #expect(Self.refused(try gateway.metrics(), "conn_limit") == 0)
        }
    }

    @Test("With TLS, a connection over conn_limit_per_address is closed before the handshake")
    func perAddressTLS() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let gateway = try GatewayProcess(scenario, Self.config(1, tls: Certificates.block()))
            let first = try RawConnection(gateway.port, from: 2)
            try gateway.waitForMetrics("it") { $0.connections() == 1 }
            let second = try RawConnection(gateway.port, from: 2)
            #expect(try second.readToEnd() == "")
            #expect(!first.hasInput)
            let post = ["--data-binary", "a 1", "https://localhost:\(gateway.port)/ingest?name=a"]
            #expect(try Curl(scenario, certificates.curl() + post).status == 200)
            #expect(Self.refused(try gateway.metrics(), "conn_limit_per_address") == 1)
        }
    }

    @Test("Unfinished heads get an eighth of max_in_flight_bytes, those beyond it get 503, and whole requests are served")
    func unfinishedHeads() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console()], http: "\"server_read_timeout\": \"1h\",",
                more: "\"limits\": { \"max_in_flight_bytes\": \"16MiB\" },")
            // 68 of these heads need 2 MiB.
            let line = "X-Long: \(String(repeating: "x", count: 7980))\r\n"
            let head = "POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n" + String(repeating: line, count: 4).dropLast(1568)
            let held = try (0..<80).map { _ in
                let connection = try RawConnection(gateway.port)
                connection.send(head)
                return connection
            }
            try gateway.waitForMetrics("those that are too many") { $0.answered(503) == 12 }
            // An answer is counted a moment before it is sent.
            let refused = try gateway.log.poll(for: "their answers") {
                let answered = held.filter(\.hasInput)
                return answered.count == 12 ? answered : nil
            }
            for connection in refused { #expect(try connection.readResponse().text.contains("max_in_flight_bytes is in use")) }
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            // The room of closed connections is free again.
            for connection in held { connection.close() }
            try gateway.waitForMetrics("nobody") { $0.connections() == 0 }
            let late = try RawConnection(gateway.port)
            late.send(head)
            late.send("\r\nContent-Length: 3\r\n\r\na 1")
            #expect(try late.readResponse().status == 200)
        }
    }
}
