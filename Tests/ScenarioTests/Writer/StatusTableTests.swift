import Testing

@testable import TestSupport

/// Tests answers of a real nginx, with both APIs at once.
@Suite("Status, body and API decide how often a profile is sent", .serialized)
struct StatusTableTests {
    /// A status and how many attempts it leads to.
    struct Row: Sendable {
        let status: Int
        /// The Connect code in a JSON body.
        let code: String
        var message = "no"
        /// The attempts of each profile when one retry is allowed.
        let attempts: Int
        /// The attempts of a Push with a JSON answer, if its code matters.
        var pushWithCode: Int? = nil
        var members = ""

        init(_ status: Int, _ code: String, _ attempts: Int, push: Int? = nil, message: String = "no", _ members: String = "") {
            (self.status, self.code, self.attempts, pushWithCode) = (status, code, attempts, push)
            (self.message, self.members) = (message, members)
        }
    }

    enum Body: String, CaseIterable { case json, html, empty }

    static let tooLarge = "message size 9 is larger than configured max 4"

    static let rows = [
        Row(200, "unknown", 1), Row(204, "unknown", 1), Row(301, "unknown", 1), Row(303, "unknown", 1),
        Row(400, "invalid_argument", 1), Row(400, "unavailable", 1), Row(401, "unauthenticated", 1), Row(403, "permission_denied", 1),
        Row(404, "not_found", 1), Row(408, "deadline_exceeded", 2), Row(409, "already_exists", 1), Row(409, "aborted", 1, push: 2),
        Row(413, "invalid_argument", 1), Row(415, "unknown", 1), Row(422, "unknown", 1),
        Row(429, "resource_exhausted", 2, message: "too fast"), Row(429, "resource_exhausted", 1, message: tooLarge),
        Row(429, "resource_exhausted", 1, message: "message is larger than configured max 4"), Row(431, "unknown", 1),
        Row(499, "canceled", 1, push: 2), Row(500, "internal", 2), Row(500, "unknown", 2), Row(501, "internal", 2),
        Row(501, "unimplemented", 2, push: 1), Row(502, "unavailable", 2), Row(503, "unavailable", 2), Row(503, "invalid_argument", 2),
        Row(504, "deadline_exceeded", 2), Row(507, "unknown", 2), Row(520, "unknown", 2),
        Row(422, "unknown", 2, "\"retry_on_422\": true"), Row(429, "resource_exhausted", 1, "\"retry_on_http_429\": false"),
        Row(400, "invalid_argument", 1, "\"retry_on_422\": true"), Row(503, "unavailable", 2, "\"retry_on_http_429\": false"),
        Row(301, "unknown", 1, "\"follow_redirects\": false"), Row(404, "not_found", 2, "\"retry_on\": [404, 423]"),
        Row(423, "unknown", 2, "\"retry_on\": [404, 423]"), Row(421, "unknown", 1, "\"retry_on\": [404, 423]"),
    ]

    /// A row with one kind of body, which has its own receiver and path at the upstream.
    private struct Cell {
        let name: String
        let row: Row
        let body: Body

        init?(_ number: Int, _ row: Row, _ body: Body) {
            // Only a message can say that the profile is too large.
            if body == .empty, row.message.contains("larger") { return nil }
            (name, self.row, self.body) = ("\(row.status)-\(number)-\(body)", row, body)
        }

        /// The nginx config that answers so.
        var location: String {
            let text =
                switch body {
                case .json: #"{"code":"\#(row.code)","message":"\#(row.message)"}"#
                case .html: "<html><body><h1>\(row.status)</h1>\(row.message)</body></html>"
                // Without any text, nginx would send its own page or close the connection.
                case .empty: "$nothing"
                }
            let type = ["json": "application/json", "html": "text/html"][body.rawValue] ?? "text/plain"
            // nginx would use the text of a redirect as its Location.
            let answer = (300..<400).contains(row.status) ? "$nothing" : text
            return "location /\(name)/ { default_type \(type); return \(row.status) '\(answer)'; }"
        }

        /// Whether a Pyroscope never answers with this success: an HTML page, or another type than a Push's.
        private func isOdd(byPush: Bool) -> Bool { row.status == 200 && (body == .html || byPush && body == .json) }

        func attempts(byPush: Bool) -> Int {
            if isOdd(byPush: byPush) { return 2 }
            return byPush && body == .json ? row.pushWithCode ?? row.attempts : row.attempts
        }

        /// The number of profiles with each outcome.
        var outcomes: [String: Int] {
            [false, true].reduce(into: [:]) { outcomes, byPush in
                let once = row.status < 300 ? "delivered" : "rejected"
                outcomes[attempts(byPush: byPush) == 1 ? once : "retries_exhausted", default: 0] += 1
            }
        }
    }

    @Test("Each status with each kind of body, over each kind of connection", arguments: ["", "ssl", "ssl http2"])
    func all(listen: String) throws {
        let cells = Self.rows.enumerated().flatMap { number, row in Body.allCases.compactMap { Cell(number, row, $0) } }
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let tls = listen.isEmpty ? "" : Nginx.tls()
            let locations = cells.map(\.location).joined(separator: "\n")
            let answering = try Nginx(scenario, location: "return 404;", server: "set $nothing ''; \(locations)")
            // A proxy reads the body before it passes the answer on. Over HTTP/2, libcurl may take an answer that comes before the
            // body was sent for a broken stream, and then the request is sent again.
            let nginx = try Nginx(scenario, before: answering.port, listen: listen, server: "\(tls) proxy_redirect off;")
            let url = listen.isEmpty ? nginx.url : nginx.secureURL
            let receivers = cells.map { cell in
                let members = "\"tls_config\": { \"ca_file\": \"ca.pem\" }, \(cell.row.members)"
                return (cell.name, ReceiverEntry.endpoint("\(url)/\(cell.name)", members, more: ReceiverEntry.oneRetry))
            }
            let gateway = try GatewayProcess(scenario, receivers: Dictionary(uniqueKeysWithValues: receivers))
            try gateway.send(1)
            #expect(try gateway.push(.numbered(1)).status == 200)
            let metrics = try gateway.waitForMetrics("the end of both profiles everywhere") { metrics in
                metrics.receivers.allSatisfy { metrics.accepted($0) == 2 && metrics.queued($0) == 0 }
            }
            let expected = cells.map { $0.attempts(byPush: false) + $0.attempts(byPush: true) }.reduce(0, +)
            // Missing requests are reported for each cell below.
            _ = try? nginx.wait(count: expected)
            let targets = try nginx.requests.map(\.target)
            for cell in cells {
                for (target, byPush) in [("/ingest?name=app", false), (GatewayProcess.pushPath, true)] {
                    let count = targets.count { $0 == "/\(cell.name)\(target)" }
                    #expect(count == cell.attempts(byPush: byPush), "\(cell.row.status) \(cell.row.code), \(cell.body), \(target)")
                }
                let known = ["rejected", "retries_exhausted"].map { ($0, metrics.dropped(cell.name, $0)) }
                let all = Dictionary(uniqueKeysWithValues: known + [("delivered", metrics.delivered(cell.name))])
                #expect(all.filter { $0.value > 0 } == cell.outcomes, "\(cell.row.status) \(cell.row.code), \(cell.body)")
            }
        }
    }

    @Test(
        "A body over nginx's limit is rejected at once, for any size and over each kind of connection",
        arguments: [2 << 10, 8 << 20], ["", "ssl", "ssl http2"])
    func limit(size: Int, listen: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let tls = listen.isEmpty ? "" : Nginx.tls()
            _ = try Certificates(scenario)
            let nginx = try Nginx(scenario, before: upstream.port, listen: listen, server: "\(tls) client_max_body_size 1k;")
            let url = listen.isEmpty ? nginx.url : nginx.secureURL
            let up = ReceiverEntry.endpoint(url, #""tls_config": { "ca_file": "ca.pem" }"#)
            let gateway = try GatewayProcess(scenario, receivers: ["up": up], http: LargePushTests.patient)
            let file = try scenario.write(String(repeating: "a;b 1\n", count: size / 6), to: "body")
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file).status == 200)
            #expect(try gateway.push(PushSeries(samples: ["id": String(repeating: "x", count: size)])).status == 200)
            let metrics = try gateway.waitForMetrics("two rejections, or retries") { $0.dropped("up", "rejected") == 2 || $0.retries() > 0 }
            #expect(metrics.retries() == 0)
            try gateway.waitForRejections(2)
            try gateway.log.wait(for: "profile dropped", "HTTP 413", "Request Entity Too Large")
            #expect(try nginx.wait(count: 2).map(\.status) == [413, 413])
            #expect(upstream.requests.isEmpty)
        }
    }
}
