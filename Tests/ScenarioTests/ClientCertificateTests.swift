import Foundation
import Testing

@testable import TestSupport

@Suite("Connections end when their client certificate is no longer accepted", .serialized)
struct ClientCertificateTests {
    private static let request = #"POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na 1"#

    /// A config with these TLS members and one receiver.
    private static func config(_ tls: String, more: String = "") -> String {
        GatewayProcess.config(
            listeners: GatewayProcess.listener(["console"], more: Certificates.block(tls) + more),
            receivers: ["console": ReceiverEntry.console()])
    }

    /// TLS members that require a client certificate, without and with a revocation list.
    private static let verify = "\"client_ca_file\": \"clients.pem\", \"client_auth_type\": \"RequireAndVerifyClientCert\","
    private static let withList = verify + "\"client_crl_file\": \"revoked.crl\","

    /// Runs a test against a gateway with TLS whose client authorities are in `clients.pem`.
    private func run(
        _ tls: String = verify, prepare: (Certificates) throws -> Void = { _ in },
        _ body: (Scenario, Certificates, GatewayProcess) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try scenario.write(try String(contentsOfFile: certificates.authority, encoding: .utf8), to: "clients.pem")
            try prepare(certificates)
            try body(scenario, certificates, try GatewayProcess(scenario, Self.config(tls)))
        }
    }

    /// Starts a client that has sent one profile with a certificate, and sends another one when it reads a line.
    private func client(_ scenario: Scenario, _ gateway: GatewayProcess, _ certificates: Certificates, showing name: String) throws
        -> ChildProcess
    {
        let client = try scenario.start([
            "python3", "\(Project.servers)/tls_client.py", "\(gateway.port)", certificates.authority, "two", Self.request,
            certificates.path(name),
        ])
        try client.output.wait(for: "200 OK")
        return client
    }

    /// Posts a profile by curl with a client certificate.
    private func post(_ scenario: Scenario, _ gateway: GatewayProcess, _ certificates: Certificates, showing name: String) throws -> Curl {
        let url = "https://localhost:\(gateway.port)/ingest?name=a"
        return try Curl(scenario, certificates.curl(showing: name) + ["--data-binary", "a 1", url])
    }

    /// Replaces the text of a file atomically.
    private static func replace(_ scenario: Scenario, _ name: String, by text: String) throws {
        try scenario.write(text, to: "next")
        guard rename(scenario.path("next"), scenario.path(name)) == 0 else { throw NeverCame(what: "rename", seen: []) }
    }

    /// Waits until the gateway has read its TLS files again this often.
    private func waitForReading(_ gateway: GatewayProcess, _ count: Int = 1) throws {
        try gateway.log.wait(for: "TLS files read again") { lines in
            lines.count { $0.contains("TLS certificates read again") } >= count ? () : nil
        }
    }

    @Test("An idle connection is closed when its certificate expires, and others stay")
    func expiry() throws {
        try run { scenario, certificates, gateway in
            let stays = try client(scenario, gateway, certificates, showing: "client")
            // The next client must have sent its profile before the certificate expires.
            try certificates.make("brief", endingIn: Project.isSanitized ? 15 : 6)
            let ends = try client(scenario, gateway, certificates, showing: "brief")
            try gateway.waitForMetrics("one of two") { $0.connections() == 1 }
            #expect(try post(scenario, gateway, certificates, showing: "brief").status == 0)
            ends.end()
            stays.write("\n")
            try gateway.waitForMetrics("three profiles") { $0.delivered("console") == 3 }
            stays.end()
        }
    }

    @Test("A connection ends when its authority is removed, idle or at its next request, and stays when another one is added")
    func authority() throws {
        try run { scenario, certificates, gateway in
            let idle = try client(scenario, gateway, certificates, showing: "client")
            let own = try String(contentsOfFile: certificates.authority, encoding: .utf8)
            try certificates.makeAuthority("other")
            let other = try String(contentsOfFile: certificates.path("other.pem"), encoding: .utf8)
            try Self.replace(scenario, "clients.pem", by: other + own)
            try waitForReading(gateway)
            let busy = try client(scenario, gateway, certificates, showing: "client")
            #expect(try gateway.metrics().connections() == 2)
            try Self.replace(scenario, "clients.pem", by: other)
            try waitForReading(gateway, 2)
            // Either the request or the check of idle connections comes first, and the request is not served.
            busy.write("\n")
            try gateway.waitForMetrics("nobody, and two profiles") { $0.connections() == 0 && $0.delivered("console") == 2 }
            #expect(try post(scenario, gateway, certificates, showing: "client").status == 0)
            for client in [idle, busy] { client.end() }
        }
    }

    @Test(
        "A reload to other authorities, or to newly required client certificates, ends connections too",
        arguments: [true, false])
    func reload(hadCertificate: Bool) throws {
        try run(hadCertificate ? Self.verify : "") { scenario, certificates, gateway in
            try certificates.makeAuthority("other")
            let client = try client(scenario, gateway, certificates, showing: "client")
            try gateway.reload(
                Self.config(hadCertificate ? Self.verify.replacing("clients.pem", with: "other.pem") : Self.verify), scenario)
            try gateway.waitForMetrics("nobody") { $0.connections() == 0 }
            client.end()
        }
    }

    @Test("A revoked certificate is refused, also on its open connection, and others are served")
    func revoked() throws {
        try run(
            Self.withList,
            prepare: { certificates in
                try certificates.make("lost")
                try certificates.makeList("revoked", revoking: [])
            }
        ) { scenario, certificates, gateway in
            let lost = try client(scenario, gateway, certificates, showing: "lost")
            let stays = try client(scenario, gateway, certificates, showing: "client")
            try certificates.makeList("next", revoking: ["lost"])
            try Self.replace(scenario, "revoked.crl", by: try String(contentsOfFile: certificates.path("next.crl"), encoding: .utf8))
            try waitForReading(gateway)
            try gateway.waitForMetrics("one of two") { $0.connections() == 1 }
            #expect(try post(scenario, gateway, certificates, showing: "lost").status == 0)
            #expect(try post(scenario, gateway, certificates, showing: "client").status == 200)

            try Self.replace(scenario, "revoked.crl", by: "no list")
            try gateway.log.wait(for: "level=error", "tls.client_crl_file: holds no list of revoked certificates in PEM")
            stays.write("\n")
            try gateway.waitForMetrics("four profiles") { $0.delivered("console") == 4 }
            for client in [lost, stays] { client.end() }
        }
    }

    @Test("An intermediate authority needs only its own revocation list, and clients of an authority without a list are refused")
    func lists() throws {
        try run(
            Self.withList,
            prepare: { certificates in
                try certificates.makeAuthority("middle", below: "ca")
                try certificates.make("deep", by: "middle")
                try certificates.makeList("revoked", revoking: [], by: "middle")
                var both = ""
                for name in ["ca", "middle"] { both += try String(contentsOfFile: certificates.path("\(name).pem"), encoding: .utf8) }
                try both.write(toFile: certificates.path("clients.pem"), atomically: true, encoding: .utf8)
            }
        ) { (scenario, certificates, gateway) throws in
            #expect(try post(scenario, gateway, certificates, showing: "deep").status == 200)
            #expect(try post(scenario, gateway, certificates, showing: "client").status == 0)
        }
    }

    @Test("check reports unusable revocation lists")
    func brokenLists() throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            try scenario.write(try String(contentsOfFile: certificates.authority, encoding: .utf8), to: "clients.pem")
            try certificates.makeList("old", revoking: [], endingIn: -60)
            try certificates.makeList("good", revoking: [])
            let good = try String(contentsOfFile: certificates.path("good.crl"), encoding: .utf8)
            try scenario.write(good + good.prefix(200), to: "halved.crl")
            for (file, tls, message) in [
                ("old.crl", Self.withList, "client_crl_file: list 1 is out of date: the next one was due on 20"),
                ("halved.crl", Self.withList, "client_crl_file: list 2 is spoilt: "),
                ("server.pem", Self.withList, "client_crl_file: holds no list of revoked certificates in PEM"),
                ("none.crl", Self.withList, "client_crl_file: cannot be read: open none.crl: No such file or directory"),
                (
                    "good.crl", "\"client_crl_file\": \"revoked.crl\"",
                    "client_crl_file: is of no use with client_auth_type \"NoClientCert\""
                ),
            ] {
                let config = try scenario.write("{ \(Self.config(tls.replacing("revoked.crl", with: file))) }", to: "check.json")
                let check = try scenario.start([try Project.builtGateway(), "check", "--config", config])
                #expect(try check.waitForExit() == 1)
                #expect((check.output.lines + check.errors.lines).contains { $0.contains(message) }, "\(file): \(check.errors.lines)")
            }
        }
    }
}
