import Foundation
import Testing

@testable import TestSupport

/// Common client programs over plain HTTP, over TLS, and over TLS with a client certificate.
@Suite("Client programs", .serialized)
struct SenderTests {
    enum Channel: String, CaseIterable, Sendable {
        case plain, tls, mutualTLS

        var members: String {
            switch self {
            case .plain: ""
            case .tls: Certificates.block()
            case .mutualTLS: Certificates.block("\"client_ca_file\": \"ca.pem\", \"client_auth_type\": \"RequireAndVerifyClientCert\"")
            }
        }

        var scheme: String { self == .plain ? "http" : "https" }
    }

    /// Runs a test against a gateway that archives, with the URL of its listener.
    private func run(_ channel: Channel, _ body: (Scenario, Certificates, GatewayProcess, String) throws -> Void) throws {
        try Scenario.run { scenario in
            let certificates = try Certificates(scenario)
            let listener = GatewayProcess.listener(["archive"], more: channel.members)
            let gateway = try GatewayProcess(
                scenario, GatewayProcess.config(listeners: listener, receivers: ["archive": ReceiverEntry.archive()]))
            try body(scenario, certificates, gateway, "\(channel.scheme)://localhost:\(gateway.port)")
        }
    }

    /// Further arguments of curl and of Python's clients: the authority, and the client's certificate and key.
    private func options(_ channel: Channel, _ certificates: Certificates) -> [String] {
        let all = [certificates.authority, certificates.path("client.pem"), certificates.path("client.key")]
        return Array(all.prefix(channel == .plain ? 0 : channel == .tls ? 1 : 3))
    }

    @Test("curl can send profiles", arguments: Channel.allCases)
    func curl(channel: Channel) throws {
        try run(channel) { scenario, certificates, gateway, url in
            let trust = channel == .plain ? [] : certificates.curl(showing: channel == .mutualTLS ? "client" : nil)
            for version in ["--http1.0", "--http1.1", "--http2"] {
                #expect(try Curl(scenario, ["--data-binary", "main;work 1", version] + trust + ["\(url)/ingest?name=app"]).status == 200)
            }
            try gateway.waitForMetrics("the archive") { $0.delivered("archive") == 3 }
        }
    }

    @Test("requests, http.client and httpx can send profiles", arguments: Channel.allCases)
    func python(channel: Channel) throws {
        try run(channel) { scenario, certificates, gateway, url in
            let senders = try scenario.start(
                [try Project.python(), "\(Project.servers)/senders.py", "\(url)/ingest?name=app"] + options(channel, certificates))
            #expect(try senders.waitForExit() == 0)
            #expect(senders.output.lines == ["requests", "http_client", "httpx"].map { "\($0) 200 200 200" }, "\(senders.errors.lines)")
            try gateway.waitForMetrics("the archive") { $0.delivered("archive") == 9 }
        }
    }

    @Test("wrk can send profiles", arguments: [Channel.plain, .tls])
    func wrk(channel: Channel) throws {
        // wrk cannot use a client certificate.
        try run(channel) { scenario, _, gateway, url in
            let script = try scenario.write("wrk.method = 'POST'; wrk.body = 'main;work 1'", to: "post.lua")
            // With so few connections wrk cannot use descriptors above 21, so the shell closes those that other tests may have left.
            let alone = "for n in /proc/$$/fd/*; do n=${n##*/}; [ $n -gt 2 ] && eval \"exec $n>&-\"; done; exec \"$@\""
            let wrk = try scenario.start(
                ["bash", "-c", alone, "bash", "wrk", "-t1", "-c4", "-d1s", "-s", script, "\(url)/ingest?name=app"])
            #expect(try wrk.waitForExit() == 0)
            #expect(!wrk.output.lines.contains { $0.contains("Non-2xx") || $0.contains("Socket errors") }, "\(wrk.output.lines)")
            #expect(try gateway.metrics().answered(200) > 0)
        }
    }

    @Test("openssl s_client can send a profile", arguments: [Channel.tls, .mutualTLS])
    func sClient(channel: Channel) throws {
        try run(channel) { scenario, certificates, gateway, _ in
            let shown = channel == .mutualTLS ? ["-cert", certificates.path("client.pem"), "-key", certificates.path("client.key")] : []
            let client = try scenario.start(
                ["openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", certificates.authority] + shown + [
                    "-connect", "localhost:\(gateway.port)",
                ])
            client.write("POST /ingest?name=app HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\na 1")
            try client.output.wait(for: "HTTP/1.1 200 OK")
            #expect(try client.waitForExit() == 0)
        }
    }

    @Test("The pyroscope-io SDK can send profiles", arguments: [Channel.plain, .tls])
    func sdk(channel: Channel) throws {
        // The SDK cannot use a client certificate either.
        try run(channel) { scenario, certificates, gateway, url in
            let program = try scenario.start(
                [try Project.python(), "\(Project.servers)/profiled.py", url, "team-a"],
                environment: ["SSL_CERT_FILE": certificates.authority])
            try gateway.waitForMetrics("its profiles") { $0.delivered("archive") >= 2 }
            program.end()
            #expect(scenario.files(under: "archive").allSatisfy { $0.hasPrefix("team-a/checkout/") })
        }
    }
}
