import Foundation
import Testing

@testable import TestSupport

@Suite("Senders behind proxies", .serialized)
struct ProxiedTests {
    private static let trusted = "\"trusted_proxies\": [\"127.0.0.1\", \"10.0.0.0/8\"], "
    private static let proxied = trusted + "\"proxy_protocol\": true, "

    private static let request = "POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1"

    // MARK: X-Forwarded-For

    @Test("A trusted proxy's X-Forwarded-For names the sender of each request, and nobody else's does")
    func forwarded() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.trusted)
            let (proxy, other) = (try RawConnection(gateway.port), try RawConnection(gateway.port, from: 7))
            let headers =
                [
                    "192.0.2.1", "192.0.2.2, 10.0.0.1", "forged, 192.0.2.3", "192.0.2.4, nonsense", "2001:db8::1",
                ].map { "X-Forwarded-For: \($0)\r\n" } + ["", "x-forwarded-for: 192.0.2.9\r\nX-FORWARDED-FOR: 192.0.2.5\r\n"]
            for header in headers { #expect(try proxy.post("/ingest?name=a", "a 1", headers: header).status == 200) }
            #expect(try other.post("/ingest?name=a", "a 1", headers: "X-Forwarded-For: 192.0.2.1\r\n").status == 200)
            #expect(
                try scenario.peers() == [
                    "192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1", "2001:db8::1", "127.0.0.1", "192.0.2.5", "127.0.0.7",
                ])
            // Refusals are told of the sender too, and what follows on the connection is not.
            #expect(try proxy.post("/nowhere", headers: "X-Forwarded-For: 192.0.2.6\r\n").status == 404)
            try gateway.log.wait(for: "level=warning", "status=404", "peer=192.0.2.6")
            proxy.send("@\r\n")
            #expect(try proxy.readResponse().status == 400)
            try gateway.log.wait(for: "level=warning", "status=400", "peer=127.0.0.1")
        }
    }

    @Test("Without trusted_proxies nobody is believed, and a reload changes that for open connections")
    func reload() throws {
        try Scenario.run { scenario in
            let upstream = try UpstreamServer(always: "503 Service Unavailable")
            func config(_ http: String) -> String {
                GatewayProcess.config(
                    listeners: GatewayProcess.listener(["up"], http: http), receivers: ["up": ReceiverEntry.writer(upstream.url)],
                    more: "\"data_dir\": \"data\",")
            }
            let gateway = try GatewayProcess(scenario, config(""))
            let proxy = try RawConnection(gateway.port)
            func send() throws { #expect(try proxy.post("/ingest?name=a", "a 1", headers: "X-Forwarded-For: 192.0.2.1\r\n").status == 200) }
            try send()
            try gateway.reload(config(Self.trusted), scenario)
            try send()
            try gateway.reload(config(""), scenario)
            try send()
            #expect(try scenario.peers() == ["127.0.0.1", "192.0.2.1", "127.0.0.1"])
        }
    }

    @Test("nginx tells the gateway whose request it passes on")
    func nginx() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.trusted)
            let nginx = try Nginx(
                scenario, before: gateway.port, location: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")
            let sender = try RawConnection(nginx.port, from: 9)
            #expect(try sender.post("/ingest?name=a", "a 1", headers: "X-Forwarded-For: 192.0.2.1\r\n").status == 200)
            #expect(try scenario.peers() == ["127.0.0.9"])
        }
    }

    // MARK: PROXY protocol

    private static func block(_ content: [UInt8], _ command: UInt8 = 0x21, _ family: UInt8 = 0x11) -> [UInt8] {
        Array("\r\n\r\n\0\r\nQUIT\n".utf8) + [command, family, UInt8(content.count >> 8), UInt8(content.count & 255)] + content
    }

    private static let four: [UInt8] = [192, 0, 2, 7, 127, 0, 0, 1, 1, 2, 3, 4]

    @Test("A header in any pieces names the sender of all requests of its connection", arguments: [Int.max, 7, 1])
    func headers(piece: Int) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.proxied)
            let headers: [[UInt8]] = [
                Array("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".utf8), Array("PROXY TCP6 2001:db8::7 ::1 1 2\r\n".utf8),
                Array("PROXY UNKNOWN\r\n".utf8), Self.block(Self.four), Self.block(Self.four + [UInt8](repeating: 0, count: 4084)),
                Self.block([], 0x20, 0), Self.block(Self.four, 0x20),
            ]
            for header in headers {
                let connection = try RawConnection(gateway.port)
                let all = header + Array((Self.request + Self.request).utf8)
                for start in stride(from: 0, to: all.count, by: min(piece, all.count)) {
                    connection.send(Array(all[start...].prefix(piece)))
                }
                for _ in 0..<2 { #expect(try connection.readResponse().status == 200) }
            }
            let expected = ["192.0.2.1", "2001:db8::7", "127.0.0.1", "192.0.2.7", "192.0.2.7", "127.0.0.1", "127.0.0.1"]
            #expect(try scenario.peers() == expected.flatMap { [$0, $0] })
            #expect(gateway.log.lines.allSatisfy { !$0.contains("PROXY header refused") && !$0.contains("request refused") })
        }
    }

    @Test("A connection without a proper header, or not from a trusted address, is closed without an answer, and logged once a minute")
    func refused() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.proxied + "\"server_read_timeout\": \"1s\", ")
            func isClosed(_ bytes: [UInt8], from number: UInt32 = 0) throws -> Bool {
                let connection = try RawConnection(gateway.port, from: number)
                connection.send(bytes)
                return try connection.firstByte() == nil
            }
            let proper = Array("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n\(Self.request)".utf8)
            #expect(try isClosed(proper, from: 7))
            try gateway.log.wait(for: "level=warning", "PROXY header refused", "peer=127.0.0.7 count=1", "trusted_proxies")
            let headers: [[UInt8]] = [
                Array(Self.request.utf8), Array("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n\(Self.request)".utf8), Self.block([1, 2, 3]),
                // These are not finished in time.
                Array("PROXY TCP4 ".utf8), Array(Self.block(Self.four).dropLast()), [],
            ]
            for header in headers { #expect(try isClosed(header)) }
            let connection = try RawConnection(gateway.port)
            connection.send(proper)
            #expect(try connection.readResponse().status == 200)
            #expect(gateway.log.lines.count { $0.contains("PROXY header refused") } == 1)
            try gateway.waitForMetrics("closed connections") { $0.connections() <= 1 }
        }
    }

    @Test("conn_limit_per_address counts the senders that headers name, not the proxy")
    func limit() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.proxied + "\"conn_limit_per_address\": 2, ")
            func connect(_ address: String) throws -> (RawConnection, Int) {
                let connection = try RawConnection(gateway.port)
                connection.send("PROXY TCP4 \(address) 10.0.0.1 1 2\r\n\(Self.request)")
                return (connection, try connection.readResponse().status)
            }
            var open: [RawConnection] = []
            for (address, status) in [("192.0.2.1", 200), ("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 503), ("192.0.2.2", 200)] {
                let (connection, answer) = try connect(address)
                #expect(answer == status)
                open.append(connection)
            }
            open.removeAll()
            try gateway.waitForMetrics("no connections") { $0.connections() == 0 }
            #expect(try connect("192.0.2.1").1 == 200)
        }
    }

    @Test("Behind a header TLS begins, and X-Forwarded-For counts where the sender it names is trusted")
    func secure() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let gateway = try GatewayProcess.keeping(scenario, http: Self.proxied, listener: Certificates.block())
            for (server, headers) in [("send-proxy", []), ("send-proxy-v2", ["-H", "X-Forwarded-For: 192.0.2.1"])] {
                let proxy = try HAProxy(scenario, before: gateway.port, server: server)
                let place = ["--interface", "127.0.0.9"] + headers + ["https://localhost:\(proxy.port)/ingest?name=a"]
                #expect(try Curl(scenario, certificates.curl() + ["--data-binary", "a 1"] + place).status == 200)
            }
            #expect(try scenario.peers() == ["127.0.0.9", "127.0.0.9"])
        }
    }

    @Test("HAProxy's headers are read, those of its checks too", arguments: ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
    func haproxy(server: String) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess.keeping(scenario, http: Self.proxied)
            let proxy = try HAProxy(scenario, before: gateway.port, server: "\(server) check check-send-proxy inter 50ms")
            let senders = try [8, 9].map { try RawConnection(proxy.port, from: $0) }
            for sender in senders { #expect(try sender.post("/ingest?name=a", "a 1").status == 200) }
            #expect(try scenario.peers() == ["127.0.0.8", "127.0.0.9"])
            #expect(gateway.log.lines.allSatisfy { !$0.contains("PROXY header refused") }, "\(gateway.log.lines)")
        }
    }
}
