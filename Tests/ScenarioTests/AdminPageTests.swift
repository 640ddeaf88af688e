import Foundation
import Testing

@testable import TestSupport

@Suite("Metrics and status pages", .serialized)
struct AdminPageTests {
    private func page(_ gateway: GatewayProcess, _ path: String) throws -> RawConnection.Response {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return try connection.readResponse()
    }

    /// Runs a test on a gateway that has delivered, dropped, retried, refused and queued profiles; its endpoint's name needs escapes.
    private func run(_ body: (Scenario, GatewayProcess, Recorder) throws -> Void) throws {
        try Scenario.run { scenario in
            let (up, dead) = (try Recorder(scenario), try Recorder(scenario))
            try dead.answer(500, body: "out of \"paper\"\n\u{1B}[31m")
            let endpoint = "{ \"url\": \"\(up.url)\", \"name\": \"a \\\"quoted\\\\ name\" }"
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "up": "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [\(endpoint)] }",
                    "dead": ReceiverEntry.writer(
                        dead.url, more: "\"required\": false, \"queue\": { \"max_profiles\": 8 }, \(ReceiverEntry.quickRetry)"),
                    "archive": ReceiverEntry.archive(), "console": ReceiverEntry.console(),
                ])
            try gateway.send(10)
            #expect(try gateway.push(.numbered(1), .numbered(2)).status == 200)
            #expect(try RawConnection(gateway.port).post("/nowhere").status == 404)
            try gateway.waitForMetrics("deliveries, drops and retries") {
                $0.delivered("up") == 12 && $0.dropped("dead") == 4 && $0.health("dead") == 2
            }
            try body(scenario, gateway, up)
        }
    }

    @Test("promtool accepts the metrics, before the first profile and after many")
    func promtool() throws {
        func check(_ scenario: Scenario, _ gateway: GatewayProcess) throws {
            let answer = try page(gateway, "/metrics")
            #expect(answer.header("Content-Type")?.hasPrefix("text/plain; version=0.0.4") == true)
            let file = try scenario.write(answer.text, to: "metrics")
            let promtool = try scenario.start(["sh", "-c", "'\(try Project.promtool())' check metrics < \(file)"])
            #expect(try promtool.waitForExit() == 0)
            #expect(promtool.output.lines + promtool.errors.lines == [])
        }
        try Scenario.run { scenario in
            try check(scenario, try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()]))
        }
        try run { scenario, gateway, _ in try check(scenario, gateway) }
    }

    static let names = [
        "gateway_build_info", "process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "gateway_profiles_received_total",
        "gateway_received_bytes_total", "gateway_requests_total", "gateway_profiles_accepted_total", "gateway_profiles_delivered_total",
        "gateway_profiles_dropped_total", "gateway_retries_total", "gateway_queue_profiles", "gateway_queue_bytes",
        "gateway_delivery_seconds", "gateway_profile_age_seconds", "gateway_queue_oldest_seconds", "gateway_receiver_health",
        "pyroscope_receive_http_tcp_connections",
        "pyroscope_receive_http_tcp_connections_limit", "pyroscope_write_sent_bytes_total", "pyroscope_write_sent_profiles_total",
        "pyroscope_write_dropped_bytes_total", "pyroscope_write_dropped_profiles_total", "pyroscope_write_retries_total",
    ]

    @Test("Every expected metric is there, and each family occurs once")
    func metricNames() throws {
        try run { _, gateway, _ in
            let families = try page(gateway, "/metrics").text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
                .map { String($0.split(separator: " ")[2]) }
            #expect(Set(families).count == families.count)
            #expect(Set(Self.names).subtracting(families) == [])
        }
    }

    @Test("The status page is JSON with version, config, listeners, and receivers with their health and last error")
    func status() throws {
        try run { scenario, gateway, _ in
            let answer = try page(gateway, "/api/v1/status")
            #expect(answer.header("Content-Type")?.hasPrefix("application/json") == true)
            #expect(answer.text.unicodeScalars.allSatisfy { $0.value >= 0x20 || $0 == "\n" })
            let status = try JSONDecoder().decode(Status.self, from: Data(answer.body))
            #expect(status.ready)
            #expect(!status.version.isEmpty)
            #expect(status.config == scenario.path("gateway.json"))
            #expect(status.listeners.map(\.name) == ["default"])
            #expect(status.listeners.map(\.port) == [gateway.port])
            #expect(Set(status.receivers.map(\.name)) == ["archive", "console", "dead", "up"])
            let dead = try #require(status.receivers.first { $0.name == "dead" })
            #expect(!dead.required && dead.health == "failed" && dead.queue_profiles == 8 && dead.queue_bytes > 0)
            #expect(dead.reason.contains("out of") && dead.last_error.contains("HTTP 500"))
            let up = try #require(status.receivers.first { $0.name == "up" })
            #expect(up.required && up.health == "ok" && up.reason == "" && up.queue_profiles == 0 && up.open_deliveries == 0)
            #expect(up.plugin.hasPrefix("pyroscope.write "))
        }
    }

    @Test("The admin listener refuses foreign Host and Origin headers, and accepts the names of admin.hosts after a reload")
    func visitors() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            func status(_ request: String, _ fields: String...) throws -> Int {
                let lines = ([request + " HTTP/1.1"] + fields).joined(separator: "\r\n")
                let connection = try RawConnection(gateway.adminPort)
                connection.send(lines + "\r\nContent-Length: 0\r\n\r\n")
                return try connection.readResponse().status
            }
            #expect(try status("GET /api/v1/status", "Host: gw.example.net:\(gateway.adminPort)") == 403)
            #expect(try status("GET /metrics", "Host: gw.example.net") == 200)
            #expect(try status("POST /-/reload", "Host: localhost", "Origin: http://evil.example") == 403)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("config reloaded") })

            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["console"]), receivers: ["console": ReceiverEntry.console()])
            let admin = GatewayProcess.admin.replacing("\"listen_port\"", with: "\"hosts\": [\"GW.example.net\"], \"listen_port\"")
            try gateway.reload(config, admin: admin, scenario)
            #expect(try status("GET /api/v1/status", "Host: gw.example.net:\(gateway.adminPort)") == 200)
            #expect(try status("GET /api/v1/status", "Host: other.example.net") == 403)
        }
    }

    /// The members of the status page that the test checks.
    private struct Status: Decodable {
        struct Listener: Decodable {
            let name, address: String
            let port: UInt16
            let connections: Int
        }

        struct Receiver: Decodable {
            let name, plugin, health, reason, last_error: String
            let required: Bool
            let queue_profiles, queue_bytes, open_deliveries: Int
        }

        let version, config: String
        let ready: Bool
        let listeners: [Listener]
        let receivers: [Receiver]
    }
}
