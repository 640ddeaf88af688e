import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Unix sockets", .serialized)
struct UnixSocketTests {
    private func config(
        _ scenario: Scenario, mode: String = "", name: String = "default", listener: String = "", http: String = "", more: String = ""
    ) -> String {
        """
        \(more) "receive_http": { "\(name)": {
          "http": { "listen_address": "unix:\(scenario.path("in.sock"))", \(mode.isEmpty ? "" : "\"socket_mode\": \"\(mode)\",") \(http) },
          \(listener) "forward_to": ["archive"] } },
        "receivers": { "archive": { \(ReceiverEntry.archive()) } }
        """
    }

    private func file(_ path: String) -> (mode: UInt32, inode: UInt)? {
        var status = stat()
        return lstat(path, &status) == 0 ? (status.st_mode & 0o7777, status.st_ino) : nil
    }

    /// Posts a profile through the listener's socket.
    private func post(_ scenario: Scenario, _ more: [String] = [], url: String = "http://localhost/ingest?name=a") throws -> Int {
        try Curl(scenario, ["--unix-socket", scenario.path("in.sock"), "--data-binary", "main 1"] + more + [url]).status
    }

    @Test("A listener at a Unix socket takes profiles from whoever its mode lets in, and its file goes with it")
    func listens() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, config(scenario))
            let path = scenario.path("in.sock")
            try gateway.log.wait(for: "msg=listening", "address=unix:\(path)")
            #expect(file(path)?.mode == 0o660)
            #expect(try post(scenario) == 200)
            #expect(try post(scenario, url: "http://localhost/nowhere") == 404)
            try gateway.log.wait(for: "level=warning", "status=404", "peer=unix")
            #expect(try gateway.page("/api/v1/status").text.contains("\"address\":\"unix:\(path)\",\"port\":0"))
            if getuid() == 0 {
                let stranger = [
                    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "--unix-socket", path, "http://a/ready",
                ]
                #expect(try scenario.start(stranger).waitForExit() != 0)
            }
            #expect(try gateway.stop() == 0)
            #expect(file(path) == nil)
        }
    }

    @Test("The socket of a killed gateway is replaced, that of a running one is not, and a file is never removed")
    func stale() throws {
        try Scenario.run { scenario in
            let path = scenario.path("in.sock")
            let first = try GatewayProcess(scenario, config(scenario))
            try first.kill()
            #expect(file(path) != nil)
            let second = try GatewayProcess(scenario, config(scenario))
            #expect(try post(scenario) == 200)
            func refusal() throws -> String {
                let process = try scenario.start([try Project.builtGateway(), "run", "--config", scenario.path("gateway.json")])
                #expect(try process.waitForExit() == 1)
                return try process.errors.waitForEnd().joined(separator: "\n")
            }
            #expect(try refusal().contains("listen on unix:\(path): Address already in use"))
            #expect(try post(scenario) == 200)
            #expect(try second.stop() == 0)
            try scenario.write("precious", to: "in.sock")
            #expect(try refusal().contains("listen on unix:\(path), where a file is: "))
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        }
    }

    @Test("A reload keeps the socket, also under another name, and changes its mode")
    func reload() throws {
        try Scenario.run { scenario in
            let path = scenario.path("in.sock")
            let gateway = try GatewayProcess(scenario, config(scenario))
            let before = file(path)?.inode
            for (mode, name) in [("0600", "default"), ("0640", "other"), ("", "other"), ("0620", "default")] {
                try gateway.reload(config(scenario, mode: mode, name: name), scenario)
                _ = try gateway.log.poll(for: "the mode") {
                    file(path)?.mode == UInt32(mode.isEmpty ? "0660" : mode, radix: 8) ? true : nil
                }
                #expect(file(path)?.inode == before)
                #expect(try post(scenario) == 200)
            }
            let tcp = GatewayProcess.config(
                listeners: GatewayProcess.listener(["archive"]), receivers: ["archive": ReceiverEntry.archive()])
            try gateway.reload(tcp, scenario)
            #expect(file(path) == nil)
            try gateway.send(1)
            try gateway.reload(config(scenario), scenario)
            #expect(try post(scenario) == 200)
        }
    }

    @Test("TLS is spoken over a Unix socket too, and a proxy there that is trusted names the sender")
    func proxies() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let gateway = try GatewayProcess(
                scenario,
                config(
                    scenario, listener: Certificates.block(), http: "\"trusted_proxies\": [\"unix\"], \"proxy_protocol\": true,",
                    more: "\"data_dir\": \"data\","
                ).replacingOccurrences(of: ReceiverEntry.archive(), with: ReceiverEntry.writer("http://127.0.0.1:1")))
            let url = "https://localhost/ingest?name=a"
            // Of a Unix socket, curl says that the sender is unknown.
            #expect(try post(scenario, certificates.curl() + ["--haproxy-protocol"], url: url) == 200)
            #expect(try post(scenario, certificates.curl() + ["--haproxy-protocol", "-H", "X-Forwarded-For: 192.0.2.8"], url: url) == 200)
            #expect(try post(scenario, certificates.curl(), url: url) == 0)
            try gateway.log.wait(for: "level=warning", "PROXY header refused", "peer=unix")
            #expect(try scenario.peers() == ["", "192.0.2.8"])
        }
    }

    // MARK: The admin listener

    @Test("Commands ask an admin listener at a Unix socket, whose file goes with it", arguments: [false, true])
    func admin(isSecure: Bool) throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let path = scenario.path("admin.sock")
            let admin =
                "\"admin\": { \"listen_address\": \"unix:\(path)\", \"socket_mode\": \"0600\", \(isSecure ? Certificates.block() : "") },"
            let file = try scenario.write("{ \(admin) \(config(scenario)) }", to: "gateway.json")
            let gateway = try scenario.start([try Project.builtGateway(), "run", "--config", file])
            try gateway.errors.wait(for: "msg=ready")
            #expect(self.file(path)?.mode == 0o600)
            func command(_ words: String...) throws -> (status: Int32, text: String) {
                let process = try scenario.start([try Project.builtGateway()] + words + ["--config", file])
                return (try process.waitForExit(), process.output.text)
            }
            #expect(try command("reload") == (0, "reloaded\n"))
            let status = try command("status")
            #expect(status.status == 0 && status.text.contains("default   unix:\(scenario.path("in.sock"))"), "\(status.text)")
            #expect(try command("reload") == (0, "reloaded\n"))
            gateway.signal(SIGTERM)
            #expect(try gateway.waitForExit() == 0)
            #expect(self.file(path) == nil && self.file(scenario.path("in.sock")) == nil)
            #expect(try command("reload").status == 1)
        }
    }

    // MARK: Destinations

    @Test("An endpoint may be at a Unix socket, for both clients, with the URL's host and path", arguments: ["auto", "libcurl"])
    func endpoint(client: String) throws {
        try Scenario.run { scenario in
            let upstream = try UnixUpstream(scenario.path("up.sock"))
            let members = "\"unix_socket\": \"up.sock\", \"client\": \"\(client)\","
            let entry = ReceiverEntry.endpoint("http://pyroscope.test:4040/base", members)
            let gateway = try GatewayProcess(scenario, up: entry)
            try gateway.send(2)
            try gateway.waitForDeliveries(2)
            let heads = upstream.heads
            #expect(heads.count == 2 && heads.allSatisfy { $0.hasPrefix("POST /base/ingest?name=app HTTP/1.1\r\n") }, "\(heads)")
            #expect(heads.allSatisfy { $0.lowercased().contains("\r\nhost: pyroscope.test:4040\r\n") })
            upstream.stop()
            try gateway.send(1, from: 2)
            try gateway.waitForMetrics("a retry") { $0.retries() >= 1 }
        }
    }

    @Test("Connections to an endpoint come from source_address", arguments: ["auto", "libcurl"])
    func source(client: String) throws {
        try Scenario.run { scenario in
            let destination = try GatewayProcess.keeping(scenario, http: "")
            let members = "\"source_address\": \"127.0.0.9\", \"client\": \"\(client)\","
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"]),
                receivers: ["up": ReceiverEntry.endpoint("http://127.0.0.1:\(destination.port)", members)])
            let kept = try scenario.bytes(of: "gateway.json")
            let gateway = try GatewayProcess(scenario, config)
            // The spool's commands read the config of the destination.
            try kept.write(to: URL(fileURLWithPath: scenario.path("gateway.json")))
            try gateway.send(2)
            try gateway.waitForDeliveries(2)
            #expect(try scenario.peers() == ["127.0.0.9", "127.0.0.9"])
        }
    }

    @Test(
        "A source_address that is not of this machine, or of the other family, is a failure that is retried",
        arguments: ["auto", "libcurl"])
    func foreignSource(client: String) throws {
        try Scenario.run { scenario in
            let upstream = try UpstreamServer(always: "200 OK")
            for source in ["192.0.2.1", "::1"] {
                let entry = ReceiverEntry.endpoint(upstream.url, "\"source_address\": \"\(source)\", \"client\": \"\(client)\",")
                let gateway = try GatewayProcess(scenario, up: entry)
                try gateway.send(1)
                try gateway.waitForMetrics("a retry") { $0.retries() >= 1 }
                gateway.process.end()
            }
            #expect(upstream.requests.isEmpty)
        }
    }
}

/// An upstream at a Unix socket that answers every request with 200.
private final class UnixUpstream: Sendable {
    private let socket: TestSocket
    private let seen = WaitableValue<[String]>([])
    private let path: String

    init(_ path: String) throws {
        (self.path, socket) = (path, try TestSocket.listening(at: path, backlog: 16))
        Thread.detachNewThread { [socket, seen] in
            while case let accepted = accept(socket.number, nil, nil), accepted >= 0 {
                let connection = TestSocket(owning: accepted)
                Thread.detachNewThread { Self.serve(connection, seen) }
            }
        }
    }

    deinit { stop() }

    /// Listens no more; open connections stay.
    func stop() {
        unlink(path)
        socket.shutDown()
    }

    /// The heads of all requests so far.
    var heads: [String] { seen.current }

    private static func serve(_ connection: TestSocket, _ seen: WaitableValue<[String]>) {
        var received = ""
        var buffer = [UInt8](repeating: 0, count: 65536)
        while case let count = recv(connection.number, &buffer, buffer.count, 0), count > 0 {
            received += String(decoding: buffer[..<count], as: UTF8.self)
            guard let end = received.range(of: "\r\n\r\n") else { continue }
            let head = String(received[..<end.upperBound])
            let length = head.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length:") }
                .flatMap { Int($0.dropFirst(15).filter { $0 != " " }) }
            guard received[end.upperBound...].utf8.count >= length ?? 0 else { continue }
            seen.update { $0.append(head) }
            received = ""
            let answer = Array("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".utf8)
            _ = Glibc.send(connection.number, answer, answer.count, Int32(MSG_NOSIGNAL))
            return
        }
    }
}
