import Foundation
import Testing

@testable import TestSupport

@Suite("TLS on a listener", .serialized)
struct TLSTests {
    /// Runs a test against a gateway with TLS and one receiver, which delivers at once.
    private func run(
        tls: String = "", http: String = "", more: String = "", log: String = "",
        _ body: (Scenario, Certificates, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let listener = GatewayProcess.listener(["console"], http: http, more: Certificates.block(tls) + more)
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()], more: log))
            try body(scenario, certificates, gateway)
        }
    }

    private static let request = #"POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"#
    private static let last = request + #"Connection: close\r\n\r\na 1"#

    /// Posts a file by curl with these options.
    private func post(
        _ scenario: Scenario, _ gateway: GatewayProcess, _ options: [String], file: String = "/dev/null", expect: [String] = []
    ) throws -> Curl {
        try Curl(scenario, ["--data-binary", "@\(file)"] + options + ["https://localhost:\(gateway.port)/ingest?name=a"])
    }

    /// The output of `tls_client.py`.
    private struct Seen: Decodable {
        let version: String?
        let alpn: String?
        let serial: String?
        let first: String?
        let answer: String?
        let closed: Bool?
    }

    /// Starts `tls_client.py` with an action.
    private func look(_ scenario: Scenario, _ gateway: GatewayProcess, _ action: String...) throws -> ChildProcess {
        try scenario.start(["python3", "\(Project.servers)/tls_client.py", "\(gateway.port)", scenario.path("ca.pem")] + action)
    }

    /// Waits for a line of its output.
    private func seen(_ process: ChildProcess, line: Int = 0) throws -> Seen {
        let text = try process.output.wait(for: "what the client saw") { $0.count > line ? $0[line] : nil }
        return try JSONDecoder().decode(Seen.self, from: Data(text.utf8))
    }

    @Test("TLS 1.2 and 1.3 are accepted, but none below min_version", arguments: [("TLS12", true), ("TLS13", false)])
    func versions(minimum: String, takes12: Bool) throws {
        try run(tls: "\"min_version\": \"\(minimum)\"") { scenario, certificates, gateway in
            let trust = certificates.curl()
            #expect(try post(scenario, gateway, trust + ["--tlsv1.3"]).status == 200)
            #expect(try post(scenario, gateway, trust + ["--tlsv1.2", "--tls-max", "1.2"]).status == (takes12 ? 200 : 0))
            #expect(try post(scenario, gateway, trust + ["--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]).status == 0)
            try gateway.waitForMetrics("handshakes that failed") {
                $0["gateway_tls_handshake_errors_total{listener=\"default\"}"] >= (takes12 ? 0 : 1)
            }
        }
    }

    @Test("ALPN selects HTTP/1.1, connections end with close_notify, and clients that offer only h2 get an alert")
    func alpn() throws {
        try run { scenario, certificates, gateway in
            let seen = try seen(try look(scenario, gateway, "request", Self.last))
            #expect((seen.version, seen.alpn, seen.closed) == ("TLSv1.3", "http/1.1", true))
            #expect(seen.answer?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
            let other = try scenario.start([
                "openssl", "s_client", "-connect", "127.0.0.1:\(gateway.port)", "-CAfile", certificates.authority, "-alpn", "h2",
            ])
            try other.errors.wait(for: "no application protocol")
        }
    }

    @Test("An idle connection that the gateway closes ends with close_notify")
    func idleClose() throws {
        try run(http: "\"server_idle_timeout\": \"50ms\",") { scenario, _, gateway in
            let seen = try seen(try look(scenario, gateway, "request", Self.request + #"\r\na 1"#))
            #expect(seen.closed == true)
            #expect(seen.answer?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
        }
    }

    @Test("Requests are read correctly, however they are split into records", arguments: [1, 7, 4096, 16384])
    func records(size: Int) throws {
        try run { scenario, _, gateway in
            // Several requests share a record, because the poller does not see bytes that OpenSSL has already decrypted.
            let chunked = #"POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na \r\n1\r\n1\r\n0\r\n\r\n"#
            let all = Self.request + #"\r\na 1"# + Self.request + #"\r\na 1"# + chunked + Self.last
            let seen = try seen(try look(scenario, gateway, "dribble", all, "\(size)"))
            #expect(seen.answer?.components(separatedBy: "HTTP/1.1 200 OK").count == 5)
            #expect(seen.closed == true)
            try gateway.waitForMetrics("4 deliveries") { $0.delivered("console") == 4 }
        }
    }

    @Test("Large bodies pass, with a length and chunked, also with little max_in_flight_bytes")
    func largeBodies() throws {
        for limit in ["512MiB", "100KiB"] {
            try run(log: "\"limits\": { \"max_in_flight_bytes\": \"\(limit)\" },") { scenario, certificates, gateway in
                let file = try scenario.write(String(repeating: "main;work 1\n", count: 700_000), to: "body")
                for more in [[], ["-H", "Transfer-Encoding: chunked"]] {
                    #expect(try post(scenario, gateway, certificates.curl() + more, file: file).status == 200)
                }
                #expect(try gateway.metrics()["gateway_received_bytes_total{listener=\"default\"}"] == 2 * 12 * 700_000)
            }
        }
    }

    @Test("Plain HTTP on a TLS port gets 400 in plain HTTP")
    func plain() throws {
        try run { scenario, _, gateway in
            let answer = try seen(try look(scenario, gateway, "plain", Self.last)).answer
            #expect(answer?.hasPrefix("HTTP/1.1 400 Bad Request\r\n") == true)
            #expect(answer?.contains("this listener speaks HTTPS") == true)
        }
    }

    @Test("A missing handshake is abandoned after server_read_timeout, and delays no drain")
    func silence() throws {
        try run(http: "\"server_read_timeout\": \"100ms\",") { scenario, _, gateway in
            let silent = try look(scenario, gateway, "silent")
            #expect(try seen(silent).answer == "")
        }
        try run(http: "\"server_read_timeout\": \"1h\",") { scenario, _, gateway in
            let silent = try look(scenario, gateway, "silent")
            try gateway.waitForMetrics("its connection") { $0.connections() == 1 }
            #expect(try gateway.stop() == 0)
            #expect(try seen(silent).answer == "")
        }
    }

    @Test("A connection over conn_limit is closed before the handshake while all others have open requests")
    func connectionLimit() throws {
        try run(http: "\"conn_limit\": 1, \"server_read_timeout\": \"1h\",") { scenario, certificates, gateway in
            // The 100 Continue shows that its request is open.
            let first = try look(scenario, gateway, "two", Self.request + #"Expect: 100-continue\r\n\r\n"#)
            _ = try seen(first)
            #expect(try post(scenario, gateway, certificates.curl()).status == 0)
            let silent = try RawConnection(gateway.port)
            #expect(try silent.readToEnd() == "")
            #expect(first.isRunning)
            let metrics = try gateway.metrics()
            #expect(metrics["gateway_connections_refused_total{listener=\"default\",limit=\"conn_limit\"}"] == 2)
            #expect(metrics["gateway_tls_handshake_errors_total{listener=\"default\"}"] == 0)
            first.end()
            try gateway.waitForMetrics("nobody") { $0.connections() == 0 }
            #expect(try post(scenario, gateway, certificates.curl()).status == 200)
        }
    }

    @Test("At conn_limit, connections without a handshake or an open request are closed for new ones")
    func connectionLimitIdle() throws {
        try run(http: "\"conn_limit\": 1, \"server_read_timeout\": \"1h\",") { scenario, certificates, gateway in
            let silent = try RawConnection(gateway.port)
            try gateway.waitForMetrics("the silent one") { $0.connections() == 1 }
            let first = try look(scenario, gateway, "two", Self.request + #"\r\na 1"#)
            _ = try seen(first)
            #expect(try silent.readToEnd() == "")
            #expect(try post(scenario, gateway, certificates.curl()).status == 200)
            try gateway.waitForMetrics("nobody") { $0.connections() == 0 }
            #expect(try gateway.metrics()["gateway_connections_closed_for_room_total{listener=\"default\"}"] == 2)
        }
    }

    @Test("A replaced certificate is used for new connections, open ones stay, and an invalid one changes nothing")
    func replaced() throws {
        try run { scenario, certificates, gateway in
            let open = try look(scenario, gateway, "two", Self.request + #"\r\na 1"#)
            let old = try seen(open)
            try certificates.make("next")
            for name in ["pem", "key"] { try Self.replace(scenario, "server.\(name)", by: "next.\(name)") }
            try gateway.log.wait(for: "TLS certificates read again")
            let new = try seen(try look(scenario, gateway, "request", Self.last))
            #expect(new.serial != old.serial)

            try scenario.write("no key", to: "spoilt")
            try Self.replace(scenario, "server.key", by: "spoilt")
            try gateway.log.wait(for: "level=error", "tls.key_file: holds no private key")
            #expect(try seen(try look(scenario, gateway, "request", Self.last)).serial == new.serial)

            try certificates.make("third")
            for name in ["pem", "key"] { try Self.replace(scenario, "server.\(name)", by: "third.\(name)") }
            // The first pair may have been read twice, once with the old key's time.
            try gateway.log.poll(for: "the third certificate") {
                try seen(try look(scenario, gateway, "request", Self.last)).serial != new.serial ? true : nil
            }
            open.write("")
            open.end()
        }
    }

    /// Moves one file over another, as a certificate renewal does.
    private static func replace(_ scenario: Scenario, _ name: String, by other: String) throws {
        guard rename(scenario.path(other), scenario.path(name)) == 0 else { throw NeverCame(what: "rename \(other)", seen: []) }
    }

    // MARK: Client certificates

    /// A `client_auth_type`.
    struct Kind: CustomTestStringConvertible, Sendable {
        let name: String
        /// Whether a handshake succeeds without a certificate, with a valid one, and with one of another authority.
        let outcomes: [Bool]
        var testDescription: String { name }
        var needsAuthority: Bool { name.contains("Verify") }
    }

    static let kinds = [
        Kind(name: "NoClientCert", outcomes: [true, true, true]), Kind(name: "RequestClientCert", outcomes: [true, true, true]),
        Kind(name: "RequireAnyClientCert", outcomes: [false, true, true]),
        Kind(name: "VerifyClientCertIfGiven", outcomes: [true, true, false]),
        Kind(name: "RequireAndVerifyClientCert", outcomes: [false, true, false]),
    ]

    @Test("client_auth_type behaves as in Go", arguments: kinds)
    func clientCertificates(kind: Kind) throws {
        let authority = kind.needsAuthority ? "\"client_ca_file\": \"ca.pem\", " : ""
        try run(tls: "\(authority)\"client_auth_type\": \"\(kind.name)\"") { scenario, certificates, gateway in
            try certificates.makeAuthority("foreign")
            try certificates.make("stranger", by: "foreign")
            let versions = [["--tlsv1.3"], ["--tls-max", "1.2"]]
            for version in versions {
                let statuses = try [nil, "client", "stranger"].map {
                    try post(scenario, gateway, certificates.curl(showing: $0) + version).status
                }
                #expect(statuses == kind.outcomes.map { $0 ? 200 : 0 }, "\(version)")
            }
        }
    }

    // MARK: Files

    static let broken: [(String, String, String)] = [
        ("", "server.key, other.pem", "key_file: is not the key of the certificate: "),
        ("", "none.key", "key_file: cannot be read: open none.key: No such file or directory"),
        ("", "locked.key", "key_file: holds no private key in PEM without a passphrase: "),
        ("", "server.pem", "key_file: holds no private key in PEM without a passphrase: "),
        ("", "server.key, none.pem", "cert_file: cannot be read: open none.pem: No such file or directory"),
        ("", "server.key, server.key", "cert_file: holds no certificate in PEM"),
        ("", "server.key, garbled.pem", "cert_file: holds no certificate in PEM"),
        ("", "server.key, halved.pem", "cert_file: certificate 2 is spoilt: "),
        ("", "old.key, old.pem", "cert_file: has expired: it was valid until 20"),
        (
            "\"client_auth_type\": \"VerifyClientCertIfGiven\", \"client_ca_file\": \"server.key\"", "server.key",
            "client_ca_file: holds no certificate in PEM"
        ),
    ]

    @Test("check and run name the unusable file, its member in the config and the reason")
    func brokenFiles() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try certificates.make("other")
            try certificates.make("old", days: -1)
            try certificates.openssl(["ec", "-in", "server.key", "-aes128", "-passout", "pass:x", "-out", "locked.key"])
            let pem = try String(contentsOfFile: scenario.path("server.pem"), encoding: .utf8)
            try scenario.write(pem.replacingOccurrences(of: "M", with: "!"), to: "garbled.pem")
            try scenario.write(pem + pem.prefix(200), to: "halved.pem")
            for (more, files, message) in Self.broken {
                let names = files.components(separatedBy: ", ")
                let tls =
                    "\"tls\": { \"key_file\": \"\(names[0])\",\n\"cert_file\": \"\(names.count > 1 ? names[1] : "server.pem")\",\n\(more) },"
                let listener = GatewayProcess.listener(["console"], more: tls)
                let config = "{ \(GatewayProcess.config(listeners: listener, receivers: ["console": ReceiverEntry.console()])) }"
                let file = try scenario.write(config, to: "gateway.json")
                let check = try scenario.start([try Project.builtGateway(), "check", "--config", file])
                #expect(try check.waitForExit() == 1)
                // A certificate used as a key causes a warning, because others may read it.
                #expect(check.output.lines.filter { !$0.contains("warning: ") }.count == 1)
                #expect(check.output.lines.first?.contains(": receive_http.default.tls.\(message)") == true, "\(check.output.lines)")
                #expect(check.output.lines.first?.hasPrefix("\(file):") == true)
            }
            let run = try scenario.start([try Project.builtGateway(), "run", "--config", scenario.path("gateway.json")])
            #expect(try run.waitForExit() == 1)
            #expect(run.errors.lines.contains { $0.contains("cannot start") && $0.contains("client_ca_file: holds no certificate") })
        }
    }
}
