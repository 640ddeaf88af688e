import Testing

@testable import TestSupport

@Suite("Table of valid, borderline and malformed requests", .serialized)
struct RequestTableTests {
    /// All answers to a row: their statuses, and whether the valid request after it was answered.
    private struct Outcome {
        /// The statuses without interim ones; 0 is an answer without a status, as in HTTP/0.9.
        let statuses: String
        private let end: String
        /// How many requests got 200, including the valid one.
        let accepted: Int

        /// - Parameter piece: how many bytes are sent at a time.
        init(_ row: RequestRow, _ port: UInt16, piece: Int = .max) throws {
            let connection = try RawConnection(port)
            defer { connection.close() }
            // The valid request asks to close, so that the connection ends in any case.
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

    /// Runs a test against a gateway with the limits of the table.
    private func run(_ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let limits = "\"limits\": { \"max_body_size\": \(RequestRow.maximumBody) },"
            try body(scenario, try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], more: limits))
        }
    }

    @Test("Rows have unique names, and each difference of nginx is real and has a reason")
    func names() {
        #expect(Set(RequestRow.all.map(\.what)).count == RequestRow.all.count)
        for row in RequestRow.all where row.nginx != nil {
            #expect(row.nginx != row.statuses && row.reason.contains("RFC "), "\(row.what)")
        }
    }

    @Test(
        "Each request gets its status, the connection stays or closes, and each 200 is one received profile",
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
        "nginx in front of the gateway answers as listed, and no request is smuggled in",
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
