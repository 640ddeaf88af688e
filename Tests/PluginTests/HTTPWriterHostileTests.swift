import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("HTTPWriter with forged records and hostile destinations", .bothClients)
struct HTTPWriterHostileTests {
    private static func writer(to url: String, _ members: String = "", host: TestHost = TestHost()) throws -> LoadedInstance {
        try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(url)","name":"up"\#(members)}]}"#, host)
    }

    // MARK: Request heads

    private static let smuggled = "x\r\nContent-Length: 0\r\n\r\nPOST /other HTTP/1.1\r\nHost: b\r\nX-Smuggled: yes"

    /// Members of a profile that go into a request head, and how the error names them.
    static let forged: [(what: String, profile: @Sendable (String) -> TestProfile)] = [
        ("the header X-Scope-OrgID", { TestProfile(tenant: $0) }), ("the header Content-Type", { TestProfile(contentType: $0) }),
        ("the header Content-Type", { TestProfile(headers: [("content-type", $0)]) }),
        ("the header Content-Encoding", { TestProfile(contentEncoding: $0) }),
        ("the header traceparent", { TestProfile(headers: [("traceparent", $0)]) }),
        ("the URL or its query", { TestProfile(query: "name=a&\($0)") }), ("the URL or its query", { TestProfile(path: "/\($0)") }),
        ("the header X-Scope-OrgID", { TestProfile(api: .push, tenant: $0) }),
    ]

    @Test("A profile that would forge a request head is rejected, and nothing is sent", arguments: forged.indices)
    func head(index: Int) throws {
        let (what, profile) = Self.forged[index]
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(to: server.url)
        for text in [Self.smuggled, "a\r", "\nb", "a\0b", "\u{7f}"] {
            let outcome = try writer.deliver(profile(text))
            #expect(outcome.status == .rejected && outcome.httpStatus == 0)
            #expect(outcome.reason.hasPrefix("up: \(what) holds a line break"), "\(outcome.reason)")
            #expect(!outcome.reason.contains("Smuggled"))
        }
        #expect(server.requests.isEmpty)
        #expect(try writer.deliver(TestProfile()).status == .delivered, "what is refused of one says nothing of the next")
        #expect(server.requests.count == 1)
    }

    @Test("A rejected request head does not affect the health of the endpoint")
    func notItsFault() throws {
        let server = try UpstreamServer(always: "200 OK")
        let host = TestHost()
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"},{"url":"\#(server.url)/b"}]}"#, host)
        for sequence in 1...12 as ClosedRange<UInt64> {
            #expect(try writer.deliver(TestProfile(sequence: sequence, tenant: "a\nb")).status == .rejected)
        }
        #expect(try writer.deliver(TestProfile(sequence: 99)).status == .delivered)
        #expect(!host.said.current.healths.contains { $0.health != .ok })
    }

    // MARK: Secrets

    /// Members with a secret, an answer that repeats it, and a part that must not be shown.
    static let echoed: [(members: String, said: String, hidden: String)] = [
        (#","bearer_token":"tok-AB/12+x""#, "you are tok-AB/12+x", "tok-AB"),
        (#","bearer_token":"tok-AB/12+x""#, "tok-AB%2F12%2bx", "tok-AB"),
        (#","basic_auth":{"username":"u","password":"pa\"ss\\wo"}"#, #"{"got":"pa\"ss\\wo"}"#, "pa\\\"s"),
        (#","headers":{"X-Honeycomb-Team":"team-secret-7"}"#, "team-secret-7?", "team-secret"),
        (#","headers":{"Cookie":"a=1; session=abcdef123"}"#, "no session abcdef123", "abcdef123"),
        (
            #","authorization":{"type":"Key","credentials":"0123456789"}"#,
            "raw \(Data("X: 1\r\nAuthorization: Key 0123456789\r\n".utf8).base64EncodedString())", "MDEyMzQ1Njc4"
        ),
    ]

    @Test(
        "Secrets that a destination repeats are removed from reasons and health", arguments: echoed,
        ["400 No", "401 No", "404 No", "500 No", "503 No"])
    func echo(row: (members: String, said: String, hidden: String), status: String) throws {
        let server = try UpstreamServer(always: status, body: "sorry: \(row.said) is wrong")
        let host = TestHost()
        let writer = try Self.writer(to: server.url, row.members, host: host)
        for attempt in 1...6 {
            let outcome = try writer.deliver(TestProfile(), attempt: UInt32(attempt))
            #expect(outcome.reason.contains("sorry: "), "\(outcome.reason)")
            #expect(outcome.reason.contains("[secret]") && !outcome.reason.contains(row.hidden), "\(outcome.reason)")
        }
        let said = host.said.current.healths.map(\.reason) + host.said.current.logs
        #expect(said.allSatisfy { !$0.contains(row.hidden) }, "\(said)")
    }

    @Test(
        "A secret at the end of the text shown or read is not shown in part",
        arguments: [480, 500, 505, 511, 512, 16_370, 16_379])
    func atTheEnd(before: Int) throws {
        let secret = "k3y-abcdefghijklmnopqrstuvwxyz"
        let filler = before < 1000 ? String(repeating: "-", count: before) : String(repeating: secret, count: before / secret.utf8.count)
        let rest = String(repeating: ".", count: max(0, before - filler.utf8.count))
        let server = try UpstreamServer(always: "500 No", body: filler + rest + secret + "tail")
        let outcome = try Self.writer(to: server.url, #","bearer_token":"\#(secret)""#).deliver(TestProfile())
        #expect(!outcome.reason.contains("k3y"), "\(outcome.reason)")
    }

    @Test("Secrets are also removed from content types, redirects and answers of a token server")
    func elsewhere() throws {
        let members = #","bearer_token":"Secret-1234""#
        for answer in [
            UpstreamServer.response("200 OK", headers: "Content-Type: text/html; x=Secret-1234\r\n"),
            UpstreamServer.response("307 Go", headers: "Location: http://Secret-1234.invalid/\r\n"),
        ] {
            let server = try UpstreamServer { _, _ in answer }
            let outcome = try Self.writer(to: server.url, members).deliver(TestProfile())
            #expect(outcome.status == .retry && outcome.reason.contains("[secret]"), "\(outcome.reason)")
            #expect(!outcome.reason.lowercased().contains("secret-1234"))
        }
        let tokens = try UpstreamServer(always: "400 No", body: #"{"error":"no client cl1ent-secret"}"#)
        let oauth2 = #","oauth2":{"client_id":"a","client_secret":"cl1ent-secret","token_url":"\#(tokens.url)"}"#
        let outcome = try Self.writer(to: "http://127.0.0.1:1", oauth2).deliver(TestProfile())
        #expect(outcome.reason.hasSuffix("HTTP 400: no client [secret]"), "\(outcome.reason)")
    }

    @Test("A replaced token is still removed from the answer to its request")
    func replaced() throws {
        let folder = try TestFolder()
        let file = "\(folder.path)/token"
        try "f1rst-token\n".write(toFile: file, atomically: true, encoding: .utf8)
        let server = try UpstreamServer { index, _ in
            if index == 0 { try? "s3cond-token\n".write(toFile: file, atomically: true, encoding: .utf8) }
            return UpstreamServer.response("500 No", body: "f1rst-token or s3cond-token")
        }
        let writer = try Self.writer(to: server.url, #","bearer_token_file":"\#(file)""#)
        #expect(try writer.deliver(TestProfile()).reason.contains("[secret] or "))
        #expect(try writer.deliver(TestProfile(), attempt: 2).reason.hasSuffix("[secret] or [secret]"))
    }

    @Test(
        "Words that are no secrets stay readable",
        arguments: [#","headers":{"X-Scope-OrgID":"team-ab","User-Agent":"agent-1"}"#, #","bearer_token":"short""#])
    func words(members: String) throws {
        let server = try UpstreamServer(always: "500 No", body: "team-ab by agent-1 is short")
        #expect(try Self.writer(to: server.url, members).deliver(TestProfile()).reason.hasSuffix("team-ab by agent-1 is short"))
    }

    // MARK: Redirects

    @Test("A redirect to another host is a retry with its reason, for every status", arguments: [301, 302, 307, 308])
    func otherHost(status: Int) throws {
        let other = try UpstreamServer(always: "200 OK")
        let server = try UpstreamServer(always: "\(status) Go", headers: "Location: http://localhost:\(other.port)/x\r\n")
        let host = TestHost()
        let outcome = try Self.writer(to: server.url, host: host).deliver(TestProfile())
        #expect(outcome.status == .retry && outcome.httpStatus == UInt32(status))
        #expect(outcome.reason == #"up: HTTP \#(status): redirects to another host, "localhost", and is not followed there"#)
        #expect(try host.health("degraded") { $0 == .degraded } == outcome.reason)
        #expect(other.requests.isEmpty && server.requests.count == 1)
        let unfollowed = try Self.writer(to: server.url, #","follow_redirects":false"#).deliver(TestProfile())
        #expect(unfollowed.status == .rejected, "follow_redirects says that it is an answer like others")
    }
}
