import Foundation
import Glibc
import PluginABI
import Testing

@testable import TestSupport

@Suite("Options of HTTPWriter endpoints", .bothClients)
struct HTTPWriterArgumentTests {
    private static func writer(to url: String, _ members: String, host: TestHost = TestHost()) throws -> LoadedInstance {
        try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(url)",\#(members)}]}"#, host)
    }

    /// The headers that an upstream gets from a writer with these members.
    private static func headers(_ members: String, _ profile: TestProfile = TestProfile(tenant: "theirs")) throws -> [String] {
        let server = try UpstreamServer(always: "200 OK")
        #expect(try writer(to: server.url, members).deliver(profile).status == .delivered)
        return try #require(server.requests.first).headers
    }

    /// Members of an endpoint, and a header that results.
    static let ways: [(String, String)] = [
        (#""basic_auth":{"username":"alice","password":"s:\u00fc"}"#, "Authorization: Basic YWxpY2U6czrDvA=="),
        (#""basic_auth":{"username":"alice"}"#, "Authorization: Basic YWxpY2U6"),
        (#""authorization":{"credentials":"t-1"}"#, "Authorization: Bearer t-1"),
        (#""authorization":{"type":"Token","credentials":"t-1"}"#, "Authorization: Token t-1"),
        (#""bearer_token":"t-2""#, "Authorization: Bearer t-2"),
        (#""headers":{"Authorization":"Own x"}"#, "Authorization: Own x"),
        (#""http_headers":{"X-A":["1","2"],"X-B":"3"}"#, "X-A: 2"),
        (#""tenant":{"force":"ours"}"#, "X-Scope-OrgID: ours"), (#""headers":{"X-Scope-OrgID":"own"}"#, "X-Scope-OrgID: own"),
        (#""name":"plain""#, "X-Scope-OrgID: theirs"),
    ]

    @Test("Credentials and tenant are sent as configured, with the first request", arguments: ways)
    func shown(members: String, header: String) throws {
        let headers = try Self.headers(members)
        #expect(headers.contains(header), "\(headers)")
        #expect(headers.count { $0.hasPrefix("Authorization:") } <= 1)
        #expect(headers.count { $0.hasPrefix("X-Scope-OrgID:") } == 1)
    }

    @Test("A tenant can be dropped, and trace headers are passed on")
    func dropped() throws {
        let traced = [("traceparent", "00-1"), ("tracestate", "a=b"), ("uber-trace-id", "1:2"), ("connection", "x"), ("te", "trailers")]
        let headers = try Self.headers(#""tenant":{"drop":true}"#, TestProfile(tenant: "theirs", headers: traced))
        #expect(!headers.contains { $0.hasPrefix("X-Scope-OrgID") || $0.lowercased().hasPrefix("te:") || $0.hasPrefix("connection") })
        for header in ["traceparent: 00-1", "tracestate: a=b", "uber-trace-id: 1:2"] { #expect(headers.contains(header)) }
    }

    @Test(
        "A secret file is read without its trailing line feed, and again when it changes",
        arguments: ["basic_auth", "authorization", "bearer_token_file"])
    func file(kind: String) throws {
        let folder = try TestFolder()
        let path = "\(folder.path)/secret"
        try "first\n".write(toFile: path, atomically: true, encoding: .utf8)
        let members = [
            "basic_auth": #""basic_auth":{"username":"a","password_file":"\#(path)"}"#,
            "authorization": #""authorization":{"credentials_file":"\#(path)"}"#, "bearer_token_file": #""bearer_token_file":"\#(path)""#,
        ]
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(to: server.url, try #require(members[kind]))
        func sent(_ number: Int) throws -> String {
            #expect(try writer.deliver(TestProfile()).status == .delivered)
            return try #require(try server.requests(number).last?.headers.first { $0.hasPrefix("Authorization: ") })
        }
        func expected(_ secret: String) -> String {
            kind == "basic_auth"
                ? "Authorization: Basic \(Data("a:\(secret)".utf8).base64EncodedString())" : "Authorization: Bearer \(secret)"
        }
        #expect(try sent(1) == expected("first"))
        try "second\r\n".write(toFile: path, atomically: true, encoding: .utf8)
        #expect(try sent(2) == expected("second"))
        unlink(path)
        let lost = try writer.deliver(TestProfile())
        #expect(lost.status == .retry)
        #expect(lost.reason.contains("cannot be read") && !lost.reason.contains("second"))
    }

    @Test("Compression applies to Pushes of its endpoint only, and never to bodies of /ingest")
    func compression() throws {
        let servers = try (0..<2).map { _ in try UpstreamServer(always: "200 OK") }
        let config = #"{"endpoint":[{"url":"\#(servers[0].url)","compression":"gzip"},{"url":"\#(servers[1].url)"}]}"#
        let writer = try HTTPWriterTests.writer(config)
        let bytes = Array(String(repeating: "profile", count: 1000).utf8)
        #expect(try writer.deliver(TestProfile(api: .push, samples: [("id", bytes)])).status == .delivered)
        let (small, plain) = (try #require(servers[0].requests.first), try #require(servers[1].requests.first))
        #expect(small.headers.contains("Content-Encoding: gzip") && !plain.headers.contains { $0.hasPrefix("Content-Encoding") })
        #expect(small.body.starts(with: [0x1F, 0x8B]) && small.body.count < 500 && plain.body.count > 7000)
        #expect(try writer.deliver(TestProfile(samples: [("", bytes)])).status == .delivered)
        #expect(servers.allSatisfy { $0.requests.last?.body == bytes })
    }

    /// Contradictory or invalid members, and a part of the error.
    static let problems: [(String, String)] = [
        (#""basic_auth":{}"#, "endpoint[0].basic_auth.username: is required"),
        (#""basic_auth":{"username":"a:b"}"#, "endpoint[0].basic_auth.username: must not hold a colon"),
        (
            #""basic_auth":{"username":"a","password":"b","password_file":"c"}"#,
            "endpoint[0].basic_auth.password: is given beside password_file"
        ),
        (#""basic_auth":{"username":"a","password_file":"/none"}"#, "endpoint[0].basic_auth.password_file: cannot be read: open /none"),
        (#""authorization":{}"#, "endpoint[0].authorization.credentials: is required, or credentials_file"),
        (#""authorization":{"type":"basic","credentials":"x"}"#, "endpoint[0].authorization.type: must not be \"Basic\""),
        (
            #""bearer_token":"a","basic_auth":{"username":"a"}"#,
            "endpoint[0].bearer_token: is given beside basic_auth; one of them is meant"
        ),
        (#""bearer_token":"a","headers":{"authorization":"b"}"#, "endpoint[0].bearer_token: is given beside an Authorization header"),
        (#""http_headers":{"X-A":[1]}"#, "endpoint[0].http_headers.X-A: must be a string or an array of strings"),
        (#""tls_config":{"cert_file":"x"}"#, "endpoint[0].tls_config.cert_file: needs key_file or key_pem"),
        (#""tls_config":{"ca_pem":"x"}"#, "endpoint[0].tls_config.ca_pem: holds no certificate in PEM"),
        (#""tls_config":{"min_version":"SSL3"}"#, "endpoint[0].tls_config.min_version: must be \"TLS10\""),
        (#""tls_config":{"ca":"x"}"#, "endpoint[0].tls_config.ca: unknown"),
        (#""proxy_url":"ftp://x""#, "endpoint[0].proxy_url: must begin with http://, https:// or socks5://"),
        (#""proxy_url":"http://x","proxy_from_environment":true"#, "endpoint[0].proxy_from_environment: is given beside proxy_url"),
        (#""no_proxy":"x""#, "endpoint[0].no_proxy: means nothing without proxy_url"),
        (#""proxy_connect_header":{"a":"b"}"#, "endpoint[0].proxy_connect_header: means nothing without a proxy"),
        (#""unix_socket":"""#, "endpoint[0].unix_socket: must be a path of 1 to 107 bytes, is \"\""),
        (#""unix_socket":"/\#(String(repeating: "s", count: 107))""#, "endpoint[0].unix_socket: must be a path of 1 to 107 bytes"),
        (#""unix_socket":"/s","proxy_url":"http://x""#, "endpoint[0].unix_socket: leaves nothing to do for a proxy"),
        (#""unix_socket":"/s","source_address":"127.0.0.1""#, "endpoint[0].source_address: means nothing for a Unix socket"),
        (#""source_address":"localhost""#, "endpoint[0].source_address: must be an IP address of this machine, is \"localhost\""),
        (#""source_address":"127.0.0.1:80""#, "endpoint[0].source_address: must be an IP address of this machine"),
        (#""tenant":{"force":"a","drop":true}"#, "endpoint[0].tenant.drop: leaves nothing to force"),
        (#""compression":"br""#, "endpoint[0].compression: must be \"none\" or \"gzip\""),
        (#""retry_on_422":1"#, "endpoint[0].retry_on_422: must be true or false, is 1"),
        (#""follow_redirect":true"#, "endpoint[0].follow_redirect: unknown; did you mean follow_redirects?"),
    ]

    @Test("A contradictory or invalid config is refused with the member's name", arguments: problems)
    func problem(members: String, message: String) throws {
        let config = #"{"endpoint":[{"url":"http://127.0.0.1:1",\#(members)}]}"#
        let lines = try HTTPWriterTests.plugin.get().refusal(of: config)
        #expect(lines.contains { $0.contains(message) }, "\(lines)")
    }

    @Test("retry_on_http_429 and retry_on_422 decide about retries")
    func retries() throws {
        for (members, status, outcome) in [
            (#""retry_on_http_429":false"#, "429 Too Many Requests", gw_status.rejected),
            (#""retry_on_http_429":true"#, "429 Too Many Requests", .retry),
            (#""retry_on_422":true"#, "422 Unprocessable Content", .retry),
            (#""retry_on_422":false"#, "422 Unprocessable Content", .rejected),
        ] {
            let server = try UpstreamServer(always: status)
            #expect(try Self.writer(to: server.url, members).deliver(TestProfile()).status == outcome, "\(members)")
        }
    }

    @Test("401 and 403 reject the profile, and make the receiver failed until a success", arguments: ["401 Unauthorized", "403 Forbidden"])
    func unauthorized(status: String) throws {
        let server = try UpstreamServer { index, _ in UpstreamServer.response(index == 0 ? status : "200 OK", body: "no entry") }
        let host = TestHost()
        let writer = try Self.writer(to: server.url, #""name":"production""#, host: host)
        #expect(try writer.deliver(TestProfile()).status == .rejected)
        let failed = try host.health("failed") { $0 == .failed }
        #expect(failed.hasPrefix("production: HTTP \(status.prefix(3)): no entry"))
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        _ = try host.health("ok", after: 1) { $0 == .ok }
    }

    // MARK: Redirects

    @Test("A redirect keeps method and body, and secrets are sent only to the same port", arguments: [301, 302, 307, 308])
    func redirect(status: Int) throws {
        let other = try UpstreamServer(always: "200 OK")
        let server = try UpstreamServer { _, request in
            request.target.hasPrefix("/moved")
                ? UpstreamServer.response("307 No", headers: "Location: \(other.url)/there?x=y\r\n")
                : UpstreamServer.response("\(status) No", headers: "Location: /moved?a=%2f\r\n")
        }
        let writer = try Self.writer(to: server.url, #""bearer_token":"secret","headers":{"X-Key":"k"}"#)
        #expect(try writer.deliver(TestProfile(query: "name=a")).status == .delivered)
        #expect(server.requests.map(\.target) == ["/ingest?name=a", "/moved?a=%2f"])
        #expect(server.requests.allSatisfy { $0.headers.contains("Authorization: Bearer secret") && $0.headers.contains("X-Key: k") })
        let last = try #require(other.requests.first)
        #expect(last.head.hasPrefix("POST /there?x=y HTTP/1.1\r\n"))
        #expect(last.body == server.requests.first?.body)
        #expect(!last.headers.contains { $0.contains("secret") || $0.hasPrefix("X-Key") })
        // The next request starts at the configured URL.
        #expect(try writer.deliver(TestProfile(query: "name=b")).status == .delivered)
        #expect(server.requests.map(\.target).suffix(2) == ["/ingest?name=b", "/moved?a=%2f"])
    }

    static let notFollowed: [(String, String)] = [
        (#""follow_redirects":false"#, "307 No"), (#""name":"a""#, "303 No"), (#""name":"a""#, "300 No"),
    ]

    @Test("A redirect that is not followed, or loops, rejects the profile", arguments: notFollowed)
    func redirectRefused(members: String, status: String) throws {
        let other = try UpstreamServer(always: "200 OK")
        let server = try UpstreamServer(always: status, headers: "Location: \(other.url)/\r\n")
        #expect(try Self.writer(to: server.url, members).deliver(TestProfile()).status == .rejected)
        #expect(other.requests.isEmpty)
        let circle = try UpstreamServer(always: "308 Again", headers: "Location: /again\r\n")
        #expect(try Self.writer(to: circle.url, #""name":"a""#).deliver(TestProfile()).status == .rejected)
        #expect(circle.requests.count == 11)
    }
}
