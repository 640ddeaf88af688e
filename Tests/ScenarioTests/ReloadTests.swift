import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Reloading the config", .serialized)
struct ReloadTests {
    @Test("An unchanged config keeps the socket, the connections and the counters", arguments: ["POST", "SIGHUP"])
    func unchanged(_ way: String) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console()])
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
            let socket = try gateway.socket(gateway.port)
            var threads = 0
            for round in 1...3 {
                if way == "POST" { #expect(try gateway.postReload().status == 200) } else { gateway.process.signal(SIGHUP) }
                try gateway.waitForReloads(round)
                #expect(try connection.post("/ingest?name=a", "a 1").status == 200)
                // The first reload starts the thread that does all reloads.
                if round == 1 { threads = try Footprint(gateway).threads }
            }
            #expect(try gateway.socket(gateway.port) == socket)
            try gateway.waitForMetrics("all of them, on one account") { $0.delivered("console") == 4 && $0.answered(200) == 4 }
            #expect(try Footprint(gateway).threads == threads)
            #expect(try gateway.metrics()["gateway_config_last_reload_successful"] == 1)
            #expect(try gateway.reloadState().successful)
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A new forward_to applies to open requests and to the next requests of open connections")
    func forwardTo() throws {
        try Scenario.run { scenario in
            let receivers = ["first": ReceiverEntry.console(), "second": ReceiverEntry.console("json")]
            func config(_ to: String) -> String {
                GatewayProcess.config(listeners: GatewayProcess.listener([to]), receivers: receivers)
            }
            let gateway = try GatewayProcess(scenario, config("first"))
            let (idle, busy) = (try RawConnection(gateway.port), try RawConnection(gateway.port))
            #expect(try idle.post("/ingest?name=a", "a 1").status == 200)
            busy.send("POST /ingest?name=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            #expect(try busy.readResponse().status == 100)
            try gateway.reload(config("second"), scenario)
            busy.send("b 1")
            #expect(try busy.readResponse().status == 200)
            #expect(try idle.post("/ingest?name=c", "c 1").status == 200)
            try gateway.waitForMetrics("deliveries") { $0.delivered("first") == 1 && $0.delivered("second") == 2 }
        }
    }

    @Test("conn_limit, sizes, timeouts and the log level apply at once")
    func limits() throws {
        try Scenario.run { scenario in
            let receivers = ["console": ReceiverEntry.console()]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            let stays = try RawConnection(gateway.port)
            #expect(try stays.post("/ingest?name=a", "a 1").status == 200)
            try gateway.reload(
                receivers: receivers, http: "\"conn_limit\": 1,",
                more: "\"limits\": { \"max_body_size\": 10 }, \"log\": { \"level\": \"debug\" },", scenario)
            #expect(try stays.post("/ingest?name=a", "a longer one 1").status == 413)
            try gateway.log.wait(for: "level=debug", "request refused")
            #expect(try gateway.metrics()["pyroscope_receive_http_tcp_connections_limit{listener=\"default\"}"] == 1)
            stays.close()
            try gateway.waitForMetrics("room") { $0.connections() == 0 }
            let slow = try RawConnection(gateway.port)
            slow.send("POST /ingest")
            try gateway.waitForMetrics("it") { $0.connections() == 1 }
            #expect(try RawConnection(gateway.port).readResponse().text.contains("conn_limit is 1"))
            slow.close()
            try gateway.reload(receivers: receivers, http: "\"server_read_timeout\": \"2s\",", scenario)
            let late = try RawConnection(gateway.port)
            late.send("POST /ingest")
            #expect(try late.readResponse().status == 408)
            try gateway.reload(receivers: receivers, scenario)
            let connections = try (0..<3).map { _ in try RawConnection(gateway.port) }
            for connection in connections { #expect(try connection.post("/ingest?name=a", "a longer one 1").status == 200) }
        }
    }

    @Test("New connections get the new certificate, and a socket can change between TLS and plain HTTP")
    func certificate() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.make("other")
            func config(_ more: String) -> String {
                let listener = GatewayProcess.listener(["console"], more: more)
                return GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()])
            }
            let gateway = try GatewayProcess(scenario, config(Certificates.block()))
            func serial() throws -> String {
                let port = "\(gateway.port)"
                let request = #"POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"#
                let client = try scenario.start([
                    "python3", "\(Project.servers)/tls_client.py", port, certificates.authority, "request", request,
                ])
                struct Seen: Decodable { let serial: String }
                let line = try client.output.wait(for: "serial")
                return try JSONDecoder().decode(Seen.self, from: Data(line.utf8)).serial
            }
            let (socket, first) = (try gateway.socket(gateway.port), try serial())
            #expect(try serial() == first)
            try gateway.reload(config("\"tls\": { \"cert_file\": \"other.pem\", \"key_file\": \"other.key\" },"), scenario)
            #expect(try serial() != first)
            try gateway.reload(config(""), scenario)
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "a 1").status == 200)
            #expect(try gateway.socket(gateway.port) == socket)
        }
    }

    @Test("An added listener serves, a removed one finishes its requests, and other listeners are not affected")
    func listeners() throws {
        try Scenario.run { scenario in
            let receivers = ["console": ReceiverEntry.console()]
            let both = GatewayProcess.listener(["console"]) + GatewayProcess.listener(["console"], name: "other")
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            let stays = try RawConnection(gateway.port)
            #expect(try stays.post("/ingest?name=a", "a 1").status == 200)
            try gateway.reload(GatewayProcess.config(listeners: both, receivers: receivers), scenario)
            let port = try #require(gateway.ports["other"])
            let (idle, busy) = (try RawConnection(port), try RawConnection(port))
            #expect(try idle.post("/ingest?name=a", "a 1").status == 200)
            busy.send("POST /ingest?name=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            #expect(try busy.readResponse().status == 100)
            try gateway.reload(receivers: receivers, scenario)
            #expect(try idle.readToEnd() == "")
            #expect(throws: (any Error).self) { try RawConnection(port) }
            busy.send("b 1")
            let answer = try busy.readResponse()
            #expect(answer.status == 200)
            #expect(answer.header("Connection") == "close")
            #expect(try busy.readToEnd() == "")
            busy.close()
            #expect(try stays.post("/ingest?name=a", "a 1").status == 200)
            try gateway.waitForMetrics("deliveries") { $0.delivered("console") == 4 }
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("An unfinished request does not keep a removed listener beyond shutdown_timeout")
    func endlessRequest() throws {
        try Scenario.run { scenario in
            let receivers = ["console": ReceiverEntry.console()]
            let both = GatewayProcess.listener(["console"]) + GatewayProcess.listener(["console"], name: "other")
            let gateway = try GatewayProcess(scenario, GatewayProcess.config(listeners: both, receivers: receivers))
            let endless = try RawConnection(try #require(gateway.ports["other"]))
            endless.send("POST /ingest?name=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            #expect(try endless.readResponse().status == 100)
            try gateway.reload(receivers: receivers, more: "\"shutdown_timeout\": \"200ms\",", scenario)
            let answer = try endless.readResponse()
            #expect(answer.status == 503)
            #expect(answer.text.contains("removed from the config"))
        }
    }

    @Test("A renamed listener keeps its socket and accepts connections throughout")
    func renamed() throws {
        try Scenario.run { scenario in
            let port = try scenario.port()
            let receivers = ["console": ReceiverEntry.console()]
            func config(_ name: String) -> String {
                let listener = GatewayProcess.listener(["console"], name: name).replacing(
                    "\"listen_port\": 0", with: "\"listen_port\": \(port)")
                return GatewayProcess.config(listeners: listener, receivers: receivers)
            }
            let gateway = try GatewayProcess(scenario, config("default"))
            let socket = try gateway.socket(port)
            for name in ["renamed", "default"] {
                try gateway.reload(config(name), scenario)
                #expect(try RawConnection(port).post("/ingest?name=a", "a 1").status == 200)
            }
            #expect(try gateway.socket(port) == socket)
        }
    }

    @Test("A listener that moves to another port closes the old one and keeps its counters")
    func moved() throws {
        try Scenario.run { scenario in
            let port = try scenario.port()
            let receivers = ["console": ReceiverEntry.console()]
            let gateway = try GatewayProcess(scenario, receivers: receivers)
            let old = gateway.port
            try gateway.send(1)
            let listener = GatewayProcess.listener(["console"]).replacing("\"listen_port\": 0", with: "\"listen_port\": \(port)")
            try gateway.reload(GatewayProcess.config(listeners: listener, receivers: receivers), scenario)
            #expect(gateway.port == port)
            #expect(throws: (any Error).self) { try RawConnection(old) }
            try gateway.send(1, from: 1)
            try gateway.waitForMetrics("two answers on one account") { $0.answered(200) == 2 }
        }
    }

    @Test("The admin listener moves and still answers the reload request, and SIGHUP restores a removed one")
    func adminMoves() throws {
        try Scenario.run { scenario in
            let port = try scenario.port()
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["console"]), receivers: ["console": ReceiverEntry.console()])
            let gateway = try GatewayProcess(scenario, config)
            let old = gateway.adminPort
            let moved = GatewayProcess.admin.replacing("\"listen_port\": 0", with: "\"listen_port\": \(port)")
            try gateway.reload(config, admin: moved, scenario)
            #expect(gateway.adminPort == port)
            #expect(try gateway.page("/-/ready").status == 200)
            #expect(throws: (any Error).self) { while true { _ = try RawConnection(old) } }
            try gateway.reload(config, admin: "\"admin\": null,", scenario)
            #expect(throws: (any Error).self) { while true { _ = try RawConnection(port) } }
            try gateway.send(1)
            try gateway.write(config, scenario)
            gateway.process.signal(SIGHUP)
            _ = try gateway.log.wait(for: "a third admin listener") { lines in
                lines.count { $0.contains("admin is listening") } == 3 ? true : nil
            }
            gateway.readPorts()
            #expect(try gateway.page("/-/ready").status == 200)
        }
    }
}
