import Testing

@Suite("A table of requests, good, at the border and malformed", .serialized)
struct RequestTableTests {
    /// The whole answer to a row: its statuses, and whether a good request behind it was answered.
    private struct Outcome {
        private(set) var statuses: [Int]
        let keeps: Bool
        /// Whether the last answer says that it is the last.
        private let saysClose: Bool

        /// - Parameter piece: how many bytes are sent at a time.
        init(_ row: RequestRow, _ port: UInt16, piece: Int = .max) throws {
            let connection = try RawConnection(port)
            defer { connection.close() }
            // The good request asks to close, so that there is an end in any case.
            let all = row.request + RequestRow.next
            for start in stride(from: 0, to: all.count, by: min(piece, all.count)) { connection.send(Array(all[start...].prefix(piece))) }
            var answers = try connection.readResponses(firstToHead: row.isHead)
            keeps = answers.last?.status == 200 && answers.last?.text == RequestRow.nextAnswer
            if keeps { answers.removeLast() }
            saysClose = answers.last?.header("Connection") == "close"
            statuses = answers.map(\.status).filter { $0 == 0 || $0 >= 200 }
        }

        var text: String { (statuses.map { "\($0)" } + [keeps ? "keeps" : saysClose ? "closes" : "breaks off"]).joined(separator: " ") }
    }

    /// A gateway with the limits of the table.
    private func run(_ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let limits = "\"limits\": { \"max_body_size\": \(RequestRow.maximumBody) },"
            try body(scenario, try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()], more: limits))
        }
    }

    @Test("No two rows have the same name, and every difference has its reason")
    func names() {
        #expect(Set(RequestRow.all.map(\.what)).count == RequestRow.all.count)
        for row in RequestRow.all { #expect((row.nginx == nil) == row.reason.isEmpty, "\(row.what)") }
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
                received += outcome.statuses.count { $0 == 200 } + (outcome.keeps ? 1 : 0)
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
                let statuses = outcome.statuses.map { "\($0)" }.joined(separator: " ")
                let expected = row.nginx ?? row.statuses.map { "\($0)" }.joined(separator: " ")
                #expect(statuses == expected, "\(row.what)")
                accepted += outcome.statuses.count { $0 == 200 } + (outcome.keeps ? 1 : 0)
                #expect(try gateway.metrics().received <= accepted, "\(row.what): more was received than got 200")
            }
        }
    }
}

extension Metrics {
    /// The profiles received by the usual listener, by whichever API.
    fileprivate var received: Int {
        ["ingest", "push"].map { self["gateway_profiles_received_total{listener=\"default\",api=\"\($0)\"}"] }.reduce(0, +)
    }
}
