import Testing

@testable import TestSupport

@Suite("A table of requests, good, at the border and malformed", .serialized)
struct RequestTableTests {
    /// The whole answer to a row: its statuses, and whether a good request behind it was answered.
    private struct Outcome {
        /// Without interim ones; 0 is an answer that has no status, as in HTTP/0.9.
        let statuses: String
        private let end: String
        /// How many profiles were answered 200, the good one among them.
        let accepted: Int

        /// - Parameter piece: how many bytes are sent at a time.
        init(_ row: RequestRow, _ port: UInt16, piece: Int = .max) throws {
            let connection = try RawConnection(port)
            defer { connection.close() }
            // The good request asks to close, so that there is an end in any case.
            let all = row.request + RequestRow.next
            for start in stride(from: 0, to: all.count, by: min(piece, all.count)) { connection.send(Array(all[start...].prefix(piece))) }
            var answers = (try? connection.readResponses(firstToHead: row.isHead)) ?? []
            accepted = answers.count { $0.status == 200 }
            let keeps = answers.last?.status == 200 && answers.last?.text == RequestRow.nextAnswer
            if keeps { answers.removeLast() }
            end = keeps ? "keeps" : answers.last?.header("Connection") == "close" ? "closes" : "breaks off"
            statuses = answers.map(\.status).filter { !(100..<200 ~= $0) }.map { "\($0)" }.joined(separator: " ")
        }

        var text: String { "\(statuses) \(end)" }
    }

    /// A gateway with the limits of the table.
    private func run(_ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let limits = "\"limits\": { \"max_body_size\": \(RequestRow.maximumBody) },"
            try body(scenario, try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], more: limits))
        }
    }

    @Test("No two rows have the same name, and every difference is one and has its reason")
    func names() {
        #expect(Set(RequestRow.all.map(\.what)).count == RequestRow.all.count)
        for row in RequestRow.all where row.nginx != nil {
            #expect(row.nginx != row.statuses && row.reason.contains("RFC "), "\(row.what)")
        }
    }

    @Test(
        "Every request gets its status, the connection stays or closes, and what got 200 is what was received",
        arguments: [.max, 1])
    func direct(piece: Int) throws {
        try run { _, gateway in
            var received = 0
            for row in RequestRow.all {
                let outcome = try Outcome(row, gateway.port, piece: row.request.count < 2000 ? piece : max(piece, 500))
                #expect(outcome.text == row.answer, "\(row.what)")
                received += outcome.accepted
                #expect(try gateway.metrics().received == received, "\(row.what): what got 200 is what was received")
                received = try gateway.metrics().received
            }
            try gateway.waitForMetrics("the deliveries") { $0.delivered("console") == received }
        }
    }

    @Test(
        "nginx before the gateway answers as the gateway does, but for the differences listed, and smuggles nothing in",
        arguments: ["on", "off"])
    func behindNginx(buffering: String) throws {
        try run { scenario, gateway in
            let nginx = try Nginx(
                scenario, before: gateway.port,
                location:
                    "proxy_set_header Host $host; proxy_request_buffering \(buffering); client_max_body_size \(RequestRow.maximumBody);",
                server: "large_client_header_buffers 4 8194; lingering_close always; lingering_timeout 100ms; server_name gateway;")
            var accepted = 0
            for row in RequestRow.all {
                let outcome = try Outcome(row, nginx.port)
                #expect(outcome.statuses == row.nginx ?? row.statuses, "\(row.what)")
                accepted += outcome.accepted
                #expect(try gateway.metrics().received <= accepted, "\(row.what): more was received than got 200")
            }
        }
    }
}
