import Foundation
import Testing

@testable import TestSupport

/// A ClientHello that costs its sender no computation.
struct ClientHello {
    /// A group of the key exchange.
    enum Group {
        case x25519, p384, ffdhe8192

        fileprivate var number: UInt16 {
            switch self {
            case .x25519: 29
            case .p384: 24
            case .ffdhe8192: 260
            }
        }

        /// A key share that any server accepts: an arbitrary number, or the generator of the curve.
        fileprivate var share: [UInt8] {
            switch self {
            case .x25519: [UInt8](repeating: 9, count: 32)
            case .p384: [4] + Self.generator.chunks(of: 2).compactMap { UInt8($0, radix: 16) }
            case .ffdhe8192: [0x7F] + [UInt8](repeating: 9, count: 1023)
            }
        }

        /// The generator of P-384 (SEC 2, section 2.5.1).
        private static let generator =
            "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7"
            + "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F"
    }

    /// The message in TLS records, as it is sent.
    let bytes: [UInt8]

    /// - Parameter total: the length of all records, if padding shall extend them.
    init(_ group: Group, total: Int? = nil) {
        let plain = Self.records(Self.message(group, padding: nil))
        // An empty padding extension has four bytes, and a record's header five.
        let more = total.map { total in
            let records = (total + 16_388) / 16_389
            return total - records * 5 - (plain.count - 5) - 4
        }
        bytes = more.map { Self.records(Self.message(group, padding: $0)) } ?? plain
    }

    /// Splits a message into TLS records.
    private static func records(_ message: [UInt8]) -> [UInt8] {
        stride(from: 0, to: message.count, by: 16_384).flatMap { start in
            let part = message[start..<min(message.count, start + 16_384)]
            return [22, 3, 1] + big(part.count, 2) + part
        }
    }

    /// The handshake message, with a padding extension of this size, if any.
    private static func message(_ group: Group, padding: Int?) -> [UInt8] {
        let share = big(Int(group.number), 2) + counted(group.share, 2)
        var extensions =
            field(43, [2, 3, 4]) + field(10, counted(big(Int(group.number), 2), 2)) + field(13, counted([4, 3, 8, 4, 4, 1, 8, 5], 2))
            + field(51, counted(share, 2))
        if let padding { extensions += field(21, [UInt8](repeating: 0, count: padding)) }
        let suites: [UInt8] = [0x13, 1, 0x13, 2, 0x13, 3]
        let session = [32] + [UInt8](repeating: 7, count: 32)
        let body = [3, 3] + [UInt8](repeating: 5, count: 32) + session + counted(suites, 2) + [1, 0] + counted(extensions, 2)
        return [1] + counted(body, 3)
    }

    /// An extension.
    private static func field(_ type: Int, _ content: [UInt8]) -> [UInt8] { big(type, 2) + counted(content, 2) }
    /// Bytes after their count.
    private static func counted(_ bytes: [UInt8], _ width: Int) -> [UInt8] { big(bytes.count, width) + bytes }
    /// A number in this many bytes, big-endian.
    private static func big(_ number: Int, _ width: Int) -> [UInt8] {
        (0..<width).reversed().map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
    }
}

extension String {
    fileprivate func chunks(of count: Int) -> [Substring] {
        stride(from: 0, to: self.count, by: count).map { dropFirst($0).prefix(count) }
    }
}

@Suite("CPU and memory cost of TLS", .serialized)
struct TLSCostTests {
    /// Runs a test against a gateway with TLS.
    private func run(
        http: String = "", more: String = "", key: [String] = Certificates.newKey,
        _ body: (Scenario, Certificates, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.make("server", key: key)
            let listener = GatewayProcess.listener(["console"], http: http, more: Certificates.block())
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()], more: more))
            try body(scenario, certificates, gateway)
        }
    }

    /// Posts a profile by curl with these options.
    private func post(_ scenario: Scenario, _ certificates: Certificates, _ gateway: GatewayProcess, _ options: [String]) throws -> Curl {
        let url = "https://localhost:\(gateway.port)/ingest?name=a"
        return try Curl(scenario, certificates.curl() + options + ["--data-binary", "a 1", url])
    }

    @Test("Only X25519, P-256 and P-384 are accepted for the key exchange")
    func groups() throws {
        // In TLS 1.2 the certificate's curve must be among the client's groups, and an RSA key has no curve.
        try run(key: Certificates.newRSAKey) { (scenario, certificates, gateway) throws in
            for version in [["--tlsv1.3"], ["--tls-max", "1.2"]] {
                for group in ["X25519", "P-256", "P-384"] {
                    #expect(try post(scenario, certificates, gateway, version + ["--curves", group]).status == 200, "\(group) \(version)")
                }
                for group in ["P-521", "X448", "ffdhe2048", "ffdhe8192"] {
                    #expect(try post(scenario, certificates, gateway, version + ["--curves", group]).status == 0, "\(group) \(version)")
                }
            }
        }
    }

    @Test("TLS 1.2 accepts only suites with ECDHE and AEAD", arguments: ["ECDSA", "RSA"])
    func suites(kind: String) throws {
        try run(key: kind == "RSA" ? Certificates.newRSAKey : Certificates.newKey) { (scenario, certificates, gateway) throws in
            /// Sends a request that offers only this suite.
            func take(_ suite: String) throws -> Curl {
                try post(scenario, certificates, gateway, ["--tls-max", "1.2", "--ciphers", "\(suite)@SECLEVEL=0"])
            }
            for suite in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
                #expect(try take("ECDHE-\(kind)-\(suite)").status == 200, "\(suite)")
            }
            let others =
                kind == "RSA"
                ? [
                    "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-CHACHA20-POLY1305", "AES128-GCM-SHA256", "AES256-SHA256",
                    "ECDHE-RSA-AES256-SHA384",
                ]
                : ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"]
            for suite in others { #expect(try take(suite).status == 0, "\(suite)") }
        }
    }

    @Test("A request on an established connection does not wait for ClientHellos that came before it")
    func establishedFirst() throws {
        try run { (scenario, certificates, gateway) throws in
            let request = #"POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1"#
            let hello = ClientHello(.p384).bytes
            // On a busy machine all ClientHellos may be answered before anyone looks, and then the attempt is repeated.
            try gateway.log.poll(for: "a request that was not behind all of them") { () -> Bool? in
                try gateway.waitForMetrics("nobody") { $0.connections() == 0 }
                let before = try gateway.metrics().delivered("console")
                let sender = try scenario.start([
                    "python3", "\(Project.servers)/tls_client.py", "\(gateway.port)", certificates.authority, "two", request,
                ])
                try sender.output.wait(for: "200 OK")
                let strangers = try (0..<400).map { _ in try RawConnection(gateway.port) }
                try gateway.waitForMetrics("all of them") { $0.connections() == 401 }
                for stranger in strangers { stranger.send(hello) }
                sender.write("\n")
                try gateway.waitForMetrics("the second profile") { $0.delivered("console") == before + 2 }
                let isAhead = strangers.contains { !$0.hasInput }
                // The ClientHellos are answered too.
                for stranger in strangers { #expect(try stranger.firstByte() == 22) }
                sender.end()
                return isAhead ? true : nil
            }
        }
    }

    /// The scheduling policies of the threads that do handshakes (proc_pid_stat(5), field 41).
    private func handshakePolicies(_ gateway: GatewayProcess) throws -> [String] {
        let tasks = "/proc/\(gateway.process.id)/task"
        return try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap { task in
            // A thread that has ended meanwhile does not count.
            guard let stat = try? String(contentsOfFile: "\(tasks)/\(task)/stat", encoding: .utf8), stat.contains("(handshakes ") else {
                return nil
            }
            return stat.split(separator: ")").last.map { String($0.split(separator: " ")[38]) }
        }
    }

    @Test("Handshake threads run only when no other thread needs the processor")
    func standsBack() throws {
        try run { (scenario, certificates, gateway) throws in
            #expect(try handshakePolicies(gateway) == [])
            #expect(try post(scenario, certificates, gateway, []).status == 200)
            // 5 is SCHED_IDLE.
            try gateway.log.poll(for: "a thread with this policy") { try handshakePolicies(gateway) == ["5"] ? true : nil }
        }
    }

    @Test("Handshakes complete although other processes use every processor")
    func busyProcessors() throws {
        try run { (scenario, certificates, gateway) throws in
            let others = try (0..<2 * ProcessInfo.processInfo.activeProcessorCount).map { _ in
                // Less than the other tests, and still more than the threads of handshakes, which are SCHED_IDLE.
                try scenario.start(["nice", "-n", "19", "sh", "-c", "echo ready; while :; do :; done"])
            }
            for other in others { try other.output.wait(for: "ready") }
            for _ in 0..<5 { #expect(try post(scenario, certificates, gateway, []).status == 200) }
        }
    }

    @Test("Clients that leave within a handshake leak no descriptor")
    func goneClients() throws {
        try run { (scenario, certificates, gateway) throws in
            #expect(try post(scenario, certificates, gateway, []).status == 200)
            let before = try Footprint(gateway).descriptors
            let hello = ClientHello(.p384).bytes
            for _ in 0..<4 {
                let strangers = try (0..<50).map { _ in try RawConnection(gateway.port) }
                for stranger in strangers { stranger.send(hello) }
                for stranger in strangers { stranger.close() }
            }
            #expect(try post(scenario, certificates, gateway, []).status == 200)
            try gateway.waitForMetrics("their ends") { metrics in
                // The connection of this request may still be open.
                metrics.connections() == 0 && (try? Footprint(gateway).descriptors <= before + 1) == true
            }
        }
    }

    @Test("A plain HTTP request of any method gets 400, also when its client half-closes")
    func plainMethods() throws {
        try run { _, _, gateway in
            for method in ["DELETE", "OPTIONS", "PATCH", "get"] {
                let client = try RawConnection(gateway.port)
                client.send("\(method) / HTTP/1.1\r\nHost: a\r\n\r\n")
                client.halfClose()
                let answer = try client.readResponse()
                #expect(answer.status == 400, "\(method)")
                #expect(answer.text.contains("this listener speaks HTTPS"))
            }
        }
    }

    @Test("A ClientHello with an unsupported group gets an alert")
    func refusedHello() throws {
        try run { _, _, gateway in
            let stranger = try RawConnection(gateway.port)
            stranger.send(ClientHello(.ffdhe8192).bytes)
            #expect(try stranger.firstByte() == 21)
            try gateway.waitForMetrics("its failure") { $0["gateway_tls_handshake_errors_total{listener=\"default\"}"] == 1 }
        }
    }

    @Test("A ClientHello may have up to 32 KiB", arguments: [(32_000, true), (32_768, true), (32_769, false), (100_000, false)])
    func handshakeSize(total: Int, isAnswered: Bool) throws {
        try run { _, _, gateway in
            let stranger = try RawConnection(gateway.port)
            let hello = ClientHello(.x25519, total: total)
            #expect(hello.bytes.count == total)
            stranger.send(hello.bytes)
            if isAnswered {
                #expect(try stranger.firstByte() == 22)
            } else {
                #expect(try stranger.readToEnd() == "")
                try gateway.waitForMetrics("its failure") { $0["gateway_tls_handshake_errors_total{listener=\"default\"}"] == 1 }
            }
        }
    }

    @Test("Unfinished handshakes get an eighth of max_in_flight_bytes, and new ones close the oldest")
    func unfinishedHandshakes() throws {
        let more = "\"limits\": { \"max_in_flight_bytes\": \"16MiB\" },"
        try run(http: "\"server_read_timeout\": \"1h\",", more: more) { scenario, certificates, gateway in
            // 2 MiB hold ten handshakes of 192 KiB, and each loop may have one more.
            let half = Array(ClientHello(.x25519).bytes.dropLast(10))
            var strangers: [RawConnection] = []
            for count in 1...40 {
                let stranger = try RawConnection(gateway.port)
                stranger.send(half)
                strangers.append(stranger)
                try gateway.waitForMetrics("it, or room made for it") {
                    $0.connections() + $0["gateway_connections_closed_for_room_total{listener=\"default\"}"] == count
                }
            }
            try gateway.waitForMetrics("room made") { $0.connections() <= 18 }
            #expect(try strangers[0].readToEnd() == "")
            #expect(!strangers[39].hasInput)
            #expect(try post(scenario, certificates, gateway, []).status == 200)
        }
    }
}
