import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("OAuth2 in HTTPWriter", .bothClients)
struct HTTPWriterOAuth2Tests {
    private static func writer(
        to url: String, tokens: String, _ more: String = "", endpoint: String = "", host: TestHost = TestHost()
    ) throws -> LoadedInstance {
        let oauth2 = #"{"client_id":"id:1","client_secret":"s&cret","token_url":"\#(tokens)/token"\#(more)}"#
        return try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(url)","oauth2":\#(oauth2)\#(endpoint)}]}"#, host)
    }

    /// The response of a token server.
    private static func token(_ text: String, _ more: String = #","expires_in":3600"#) -> String {
        UpstreamServer.response(
            "200 OK", headers: "Content-Type: application/json\r\n", body: #"{"access_token":"\#(text)","token_type":"Bearer"\#(more)}"#)
    }

    private static let basic = "Authorization: Basic \(Data("id%3A1:s%26cret".utf8).base64EncodedString())"

    @Test("Waiting deliveries share one token request, and the token is reused while it is valid")
    func once() throws {
        let upstream = try UpstreamServer(always: "200 OK")
        let tokens = try UpstreamServer { index, _ in Self.token("t-\(index)") }
        let writer = try Self.writer(to: upstream.url, tokens: tokens.url, #","scopes":["a","b c"],"endpoint_params":{"audience":"x&y"}"#)
        let profiles = (0..<16).map { _ in TestProfile() }
        let open = profiles.map { writer.begin($0) }
        let statuses = try withExtendedLifetime(profiles) { try open.map { try writer.host.outcome(of: $0).status } }
        #expect(statuses.allSatisfy { $0 == .delivered })
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(upstream.requests.allSatisfy { $0.headers.contains("Authorization: Bearer t-0") })
        #expect(tokens.requests.count == 1)
        let request = try #require(tokens.requests.first)
        #expect(request.head.hasPrefix("POST /token HTTP/1.1\r\n"))
        #expect(request.headers.contains(Self.basic) && request.headers.contains("Content-Type: application/x-www-form-urlencoded"))
        #expect(String(decoding: request.body, as: UTF8.self) == "grant_type=client_credentials&audience=x%26y&scope=a%20b%20c")
    }

    @Test("A server that wants ID and secret in the body gets them there, from then on at once")
    func inBody() throws {
        let tokens = try UpstreamServer { index, request in
            request.headers.contains(Self.basic)
                ? UpstreamServer.response("401 No", body: #"{"error":"invalid_client"}"#)
                : Self.token("t-\(index)", #","expires_in":"3600""#)
        }
        let upstream = try UpstreamServer { index, _ in UpstreamServer.response(index == 1 ? "401 Gone" : "200 OK") }
        let writer = try Self.writer(to: upstream.url, tokens: tokens.url)
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(tokens.requests.count == 2)
        #expect(
            String(decoding: tokens.requests[1].body, as: UTF8.self)
                == "grant_type=client_credentials&client_id=id%3A1&client_secret=s%26cret")
        // A token that is no longer valid is replaced, and its profile is retried.
        #expect(try writer.deliver(TestProfile()).status == .retry)
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(tokens.requests.count == 3)
        #expect(upstream.requests.last?.headers.contains("Authorization: Bearer t-2") == true)
    }

    @Test("A refusal of a revoked token that comes after a newer one was accepted is not final")
    func lateRefusal() throws {
        let (arrived, late) = (Gate(), Gate())
        let tokens = try UpstreamServer { index, _ in Self.token("t-\(index)") }
        let upstream = try UpstreamServer { index, request in
            if index > 0, request.target.contains("slow") {
                arrived.open()
                late.wait()
            }
            let isRevoked = index > 0 && request.headers.contains("Authorization: Bearer t-0")
            return UpstreamServer.response(isRevoked ? "401 Gone" : "200 OK")
        }
        let writer = try Self.writer(to: upstream.url, tokens: tokens.url)
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        let slow = TestProfile(sequence: 8, query: "name=slow")
        let token = writer.begin(slow)
        arrived.wait()
        #expect(try writer.deliver(TestProfile(sequence: 9)).status == .retry)
        #expect(try writer.deliver(TestProfile(sequence: 9)).status == .delivered)
        late.open()
        #expect(try withExtendedLifetime(slow) { try writer.host.outcome(of: token).status } == .retry)
        #expect(try writer.deliver(slow).status == .delivered)
        #expect(tokens.requests.count == 2)
    }

    @Test("A revoked token is replaced where the config has 401 retried, too")
    func revokedAndRetried() throws {
        let tokens = try UpstreamServer { index, _ in Self.token("t-\(index)", "") }
        let upstream = try UpstreamServer { index, request in
            UpstreamServer.response(index > 0 && request.headers.contains("Authorization: Bearer t-0") ? "401 Gone" : "200 OK")
        }
        let writer = try Self.writer(to: upstream.url, tokens: tokens.url, endpoint: #","retry_on":[401]"#)
        #expect(try [1, 2, 2].map { try writer.deliver(TestProfile(sequence: $0)).status } == [.delivered, .retry, .delivered])
        #expect(tokens.requests.count == 2)
    }

    @Test("A 401 for every token rejects the profile")
    func unwanted() throws {
        let tokens = try UpstreamServer { index, _ in Self.token("t-\(index)") }
        let upstream = try UpstreamServer(always: "401 No")
        #expect(try Self.writer(to: upstream.url, tokens: tokens.url).deliver(TestProfile()).status == .rejected)
    }

    static let failures: [(String, String)] = [
        ("500 No", "oauth2: the token server answers HTTP 500"), ("200 OK", "oauth2: the token server's answer holds no access_token"),
        ("403 No", "oauth2: the token server answers HTTP 403: access_denied"),
    ]

    @Test("Without a token the profile is retried, and the reason contains no secret", arguments: failures)
    func failure(status: String, reason: String) throws {
        let tokens = try UpstreamServer(always: status, body: status == "403 No" ? #"{"error":"access_denied"}"# : "")
        let upstream = try UpstreamServer(always: "200 OK")
        let outcome = try Self.writer(to: upstream.url, tokens: tokens.url).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.reason.contains(reason), "\(outcome.reason)")
        #expect(!outcome.reason.contains("s&cret") && upstream.requests.isEmpty)
    }

    @Test("Abort ends deliveries that wait for a token")
    func abort() throws {
        let gate = Gate()
        let tokens = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        defer { gate.open() }
        let writer = try Self.writer(to: "http://127.0.0.1:1", tokens: tokens.url)
        let profile = TestProfile()
        let token = writer.begin(profile)
        _ = try tokens.requests(1)
        writer.abort()
        let status = try withExtendedLifetime(profile) { try writer.host.outcome(of: token).status }
        #expect(status == .aborted)
    }

    @Test(
        "An incomplete or invalid oauth2 config is refused by name",
        arguments: [
            ("{}", "oauth2.client_id: is required"), ("{}", "oauth2.client_secret: is required, or client_secret_file"),
            ("{}", "oauth2.token_url: is required"),
            (#"{"client_id":"a","client_secret":"b","token_url":"http://x","scopes":"s"}"#, "oauth2.scopes: must be an array of strings"),
            (#"{"client_id":"a","client_secret":"b","token_url":"http://x","scope":[]}"#, "oauth2.scope: unknown; did you mean scopes?"),
        ])
    func problems(oauth2: String, message: String) throws {
        let lines = try HTTPWriterTests.plugin.get().refusal(of: #"{"endpoint":[{"url":"http://127.0.0.1:1","oauth2":\#(oauth2)}]}"#)
        #expect(lines.contains { $0.contains("endpoint[0].\(message)") }, "\(lines)")
    }
}
