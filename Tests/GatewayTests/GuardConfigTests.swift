import ConfigJSON
import Testing

@testable import HTTPServer
@testable import Gateway
@testable import ProfileAPI

@Suite("Reading tls, auth, tenant and rate_limit")
struct GuardConfigTests {
    /// Reads a listener with these members, which begin on line 2.
    private static func read(_ members: String) -> ConfigFile {
        let text = "{\"receive_http\": {\"l\": {\"forward_to\": [\"r\"],\n\(members)}}, \"receivers\": {\"r\": {\"plugin\": \"P\"}}}"
        return ConfigFile(path: "g.json", text: Array(text.utf8))
    }

    private static func listener(_ members: String) throws -> ListenerConfig {
        let file = read(members)
        #expect(file.problems.isEmpty)
        return try #require(file.config.listeners.first)
    }

    static let tls = #""cert_file": "c", "key_file": "k""#

    @Test("A tls block has Alloy's names and defaults, in the listener or in its http block")
    func tls() throws {
        let short = try #require(try Self.listener(#""tls": {\#(Self.tls)}"#).http.tls)
        #expect(short.certificate.content == .file("c"))
        #expect(short.key.content == .file("k"))
        #expect((short.clientAuthorities, short.clientAuth, short.minimumVersion) == (nil, .none, .tls12))
        let long =
            #""cert_pem": "C", "key_pem": "K", "client_ca_pem": "A", "client_auth_type": "RequireAndVerifyClientCert", "min_version": "TLS13""#
        let full = try #require(try Self.listener(#""http": {"tls": {\#(long)}}"#).http.tls)
        #expect([full.certificate.content, full.key.content] == [.text("C"), .text("K")])
        #expect((full.clientAuthorities?.content, full.clientAuth, full.minimumVersion) == (.text("A"), .requireAndVerify, .tls13))
    }

    @Test("auth, tenant and rate_limit are read, and an absent one restricts nothing")
    func access() throws {
        let open = try Self.listener("")
        #expect((open.http.tls, open.http.auth, open.tenant, open.rateLimit) == (nil, nil, .pass, nil))
        let auth = try #require(try Self.listener(#""auth": {"basic": {"users_file": "u"}, "bearer_tokens_file": "t"}"#).http.auth)
        #expect((auth.users?.content, auth.tokens?.content, auth.clientCertificate) == (.file("u"), .file("t"), false))
        #expect(try Self.listener(#""tenant": {"force": "a"}"#).tenant == .force("a"))
        #expect(try Self.listener(#""tenant": {"require": true}"#).tenant == .require)
        #expect(try Self.listener(#""tenant": {"require": false}"#).tenant == .pass)
        #expect(try Self.listener(#""tenant": {"allow": ["a", "b"]}"#).tenant == .allow(["a", "b"]))
        let rates = try #require(
            try Self.listener(#""rate_limit": {"profiles_per_second": 5, "bytes_per_second": "1KiB", "bytes_burst": 9}"#).rateLimit)
        #expect(rates == RateLimitConfig(profiles: .init(perSecond: 5, burst: 5), bytes: .init(perSecond: 1024, burst: 9)))
    }

    static let problems: [(String, [String])] = [
        (
            #""tls": {}"#,
            ["2:8: receive_http.l.tls.cert_file: is required, or cert_pem", "2:8: receive_http.l.tls.key_file: is required, or key_pem"]
        ),
        (#""tls": {\#(tls), "cert_pem": "C"}"#, ["2:56: receive_http.l.tls.cert_pem: is given beside cert_file; one of them is meant"]),
        (#""http": {"tls": {\#(tls)}}, "tls": {\#(tls)}"#, ["2:62: receive_http.l.tls: is given beside http.tls; one of them is meant"]),
        (
            #""tls": {\#(tls), "client_auth_type": "require"}"#,
            [
                "2:64: receive_http.l.tls.client_auth_type: must be \"NoClientCert\" or \"RequestClientCert\" or \"RequireAnyClientCert\" or \"VerifyClientCertIfGiven\" or \"RequireAndVerifyClientCert\", is \"require\""
            ]
        ),
        (
            #""tls": {\#(tls), "client_auth_type": "VerifyClientCertIfGiven"}"#,
            ["2:64: receive_http.l.tls.client_auth_type: \"VerifyClientCertIfGiven\" needs client_ca_file or client_ca_pem"]
        ),
        (
            #""tls": {\#(tls), "client_ca_file": "a"}"#,
            ["2:62: receive_http.l.tls.client_ca_file: is of no use with client_auth_type \"NoClientCert\""]
        ),
        (
            #""tls": {\#(tls), "min_version": "TLS11"}"#,
            ["2:59: receive_http.l.tls.min_version: must be \"TLS12\" or \"TLS13\", is \"TLS11\""]
        ),
        (#""tls": {\#(tls), "cert_fiel": "x"}"#, ["2:44: receive_http.l.tls.cert_fiel: unknown; did you mean cert_file?"]),
        (#""auth": {}"#, ["2:9: receive_http.l.auth: must name basic, bearer_tokens_file or client_certificate: nobody could send"]),
        (
            #""auth": {"basic": {}}"#,
            ["2:19: receive_http.l.auth.basic.users_file: is required: a file with a line user:hash for each user"]
        ),
        (
            #""auth": {"client_certificate": true}"#,
            ["2:32: receive_http.l.auth.client_certificate: needs tls with a client_auth_type that verifies"]
        ),
        (
            #""tenant": {"force": "a b"}"#,
            ["2:21: receive_http.l.tenant.force: \"a b\" is no tenant: 1 to 150 of A-Z a-z 0-9 ! _ . * ' ( ) -"]
        ),
        (#""tenant": {"allow": []}"#, ["2:21: receive_http.l.tenant.allow: must name at least one tenant"]),
        (
            #""tenant": {"allow": ["a", ""]}"#,
            ["2:21: receive_http.l.tenant.allow: \"\" is no tenant: 1 to 150 of A-Z a-z 0-9 ! _ . * ' ( ) -"]
        ),
        (#""tenant": {"force": "a", "require": true}"#, ["2:21: receive_http.l.tenant.force: leaves nothing to require or allow"]),
        (#""rate_limit": {}"#, ["2:15: receive_http.l.rate_limit: must have profiles_per_second or bytes_per_second"]),
        (
            #""rate_limit": {"profiles_per_second": 0}"#,
            ["2:39: receive_http.l.rate_limit.profiles_per_second: must be a whole number, 1 to 2147483647, is 0"]
        ),
        (
            #""rate_limit": {"bytes_per_second": 1, "profiles_burst": 1}"#,
            ["2:57: receive_http.l.rate_limit.profiles_burst: means nothing without profiles_per_second"]
        ),
    ]

    @Test("A problem names its position, its member and what is wrong", arguments: problems)
    func problem(members: String, lines: [String]) {
        #expect(Self.read(members).lines == lines.map { "g.json:\($0)" })
    }
}
