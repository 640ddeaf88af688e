import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("HTTPWriter and upstream answers", .bothClients)
struct HTTPWriterAnswerTests {
    private static func writer(to url: String, _ members: String = "", host: TestHost = TestHost()) throws -> LoadedInstance {
        try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(url)","name":"up"\#(members)}]}"#, host)
    }

    /// The outcome of a delivery to a server with this answer.
    private static func outcome(_ answer: String, _ members: String = "", api: gw_api = .ingest) throws -> TestHost.Finish {
        let server = try UpstreamServer { _, _ in answer }
        return try writer(to: server.url, members).deliver(TestProfile(api: api))
    }

    /// A response with this status, type and body.
    private static func answer(_ status: String = "200 OK", type: String? = nil, body: String = "") -> String {
        UpstreamServer.response(status, headers: type.map { "Content-Type: \($0)\r\n" } ?? "", body: body)
    }

    // MARK: Successes

    /// Content types and bodies of a success, and the outcome for each API.
    static let successes: [(type: String?, body: String, ingest: gw_status, push: gw_status)] = [
        (nil, "", .delivered, .delivered), ("application/json", "", .delivered, .delivered),
        ("application/proto", "", .delivered, .delivered), ("application/proto", "\u{8}\u{1}", .delivered, .delivered),
        ("Application/Proto; charset=utf-8", "x", .delivered, .delivered), ("application/json", "{}", .delivered, .retry),
        ("text/plain", "ok", .delivered, .retry), (nil, "ok", .delivered, .retry), ("application/protobuf", "x", .delivered, .retry),
        ("text/html", "<p>", .retry, .retry), ("text/html", "", .retry, .retry), ("TEXT/HTML;charset=utf-8", "x", .retry, .retry),
        ("application/xhtml+xml", "<html/>", .retry, .retry), (nil, "\n<!DOCTYPE html><title>", .retry, .retry),
        (nil, "<HTML>", .retry, .retry),
        (nil, "<htm", .delivered, .retry),
    ]

    @Test("A 2xx counts as success only if its type and body can come from a Pyroscope", arguments: successes, [200, 201, 206])
    func success(row: (type: String?, body: String, ingest: gw_status, push: gw_status), status: Int) throws {
        let answer = Self.answer("\(status) OK", type: row.type, body: row.body)
        for (api, expected) in [(gw_api.ingest, row.ingest), (.push, row.push)] {
            let outcome = try Self.outcome(answer, api: api)
            #expect(outcome.status == expected, "\(api)")
            if expected == .retry { #expect(outcome.reason.contains(row.type ?? "without a content type")) }
        }
    }

    @Test("A web page as the answer makes the receiver degraded, until a profile is accepted", arguments: [1, 7])
    func degraded(pages: Int) throws {
        let server = try UpstreamServer { index, _ in
            index < pages ? Self.answer(type: "text/html; charset=ascii", body: "<html>") : Self.answer()
        }
        let host = TestHost()
        let writer = try Self.writer(to: server.url, host: host)
        for sequence in 1...UInt64(pages) { #expect(try writer.deliver(TestProfile(sequence: sequence)).status == .retry) }
        let reason = try host.health("degraded") { $0 == .degraded }
        #expect(reason.hasPrefix("up: HTTP 200") && reason.contains("text/html; charset=ascii"))
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        _ = try host.health("ok", after: 1) { $0 == .ok }
        #expect(!host.said.current.healths.contains { $0.health == .failed })
    }

    @Test("A login page behind a redirect is a retry whose reason mentions the redirect")
    func login() throws {
        let server = try UpstreamServer { _, request in
            request.target.hasPrefix("/login")
                ? Self.answer(type: "text/html", body: "<form>")
                : UpstreamServer.response("302 Found", headers: "Location: /login?next=x\r\n")
        }
        let outcome = try Self.writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .retry && outcome.httpStatus == 200)
        #expect(outcome.reason.contains("behind a redirect") && outcome.reason.contains("text/html"))
    }

    // MARK: Limits

    private static let kibibyte = String(repeating: "x", count: 1024)

    @Test("A body of up to 1 MiB is accepted", arguments: [-1, 0, 1], ["200 OK", "400 No", "500 No"])
    func body(beyond: Int, status: String) throws {
        let outcome = try Self.outcome(Self.answer(status, body: String(repeating: "x", count: 1 << 20 + beyond)))
        let known: gw_status = status.hasPrefix("4") ? .rejected : status.hasPrefix("5") ? .retry : beyond > 0 ? .retry : .delivered
        #expect(outcome.status == known, "what is no success is what its status says")
        if beyond > 0, known == .retry, status.hasPrefix("2") { #expect(outcome.reason.contains("a body of more than 1 MiB")) }
    }

    @Test("Head and trailers of up to 64 KiB together are accepted", arguments: [-1, 0, 1], ["head", "trailers", "both", "interim"])
    func head(beyond: Int, place: String) throws {
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        let interim = place == "interim" ? "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" : ""
        let fields = (0..<60).map { "X-\($0): \(Self.kibibyte)\r\n" }
        let split = ["head": 60, "trailers": 0, "both": 30, "interim": 60][place] ?? 0
        // The blank line of the head counts, and libcurl does not pass on that of the trailers.
        let known = (interim + start + fields.joined()).utf8.count + 2 + "X-Rest: \r\n".utf8.count
        let rest = "X-Rest: \(String(repeating: "r", count: 64 << 10 + beyond - known))\r\n"
        let answer = interim + start + fields[..<split].joined() + "\r\n0\r\n" + fields[split...].joined() + rest + "\r\n"
        let outcome = try Self.outcome(answer)
        #expect(outcome.status == (beyond > 0 ? .retry : .delivered), "\(outcome.reason)")
        if beyond > 0 { #expect(outcome.reason.contains("more than 64 KiB of head and trailers")) }
    }

    @Test("An endless answer is abandoned, and the receiver continues", arguments: ["head", "body", "trailers"])
    func endless(place: String) throws {
        let chunk = String(repeating: "y", count: 65_536)
        let endless =
            switch place {
            case "head": "HTTP/1.1 200 OK\r\n" + (0..<40_000).map { "X-\($0): \(Self.kibibyte)\r\n" }.joined()
            case "trailers":
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + (0..<40_000).map { "X-\($0): \(Self.kibibyte)\r\n" }.joined()
            default: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + String(repeating: "10000\r\n\(chunk)\r\n", count: 600)
            }
        let server = try UpstreamServer { index, _ in index == 0 ? endless : Self.answer() }
        let writer = try Self.writer(to: server.url)
        #expect(try writer.deliver(TestProfile()).status == .retry)
        #expect(try writer.deliver(TestProfile(), attempt: 2).status == .delivered)
        #expect(server.requests.map(\.connection) == [0, 1], "the connection ended with the answer")
    }

    @Test("Answers of a token server have the same limits")
    func tokens() throws {
        let tokens = try UpstreamServer { _, _ in Self.answer(type: "application/json", body: String(repeating: " ", count: 1 << 20 + 1)) }
        let oauth2 = #","oauth2":{"client_id":"a","client_secret":"b","token_url":"\#(tokens.url)"}"#
        let outcome = try Self.writer(to: "http://127.0.0.1:1", oauth2).deliver(TestProfile())
        #expect(outcome.status == .retry && outcome.reason.contains("the token server's answer has a body of more than 1 MiB"))
    }

    // MARK: retry_on

    @Test("Statuses in retry_on are retried with their Retry-After, and no others", arguments: [404, 421, 423, 425, 400, 499, 501])
    func retryOn(status: Int) throws {
        let answer = UpstreamServer.response("\(status) No", headers: "Retry-After: 7\r\n")
        let outcome = try Self.outcome(answer, #","retry_on":[\#(status)]"#)
        #expect(outcome.status == .retry && outcome.retryAfter == .seconds(7) && outcome.httpStatus == UInt32(status))
        let other = try Self.outcome(answer, #","retry_on":[\#(status == 404 ? 405 : 404)]"#)
        #expect(other.status == (status == 501 ? .retry : .rejected))
    }

    @Test("A 429 for a message that is too large is rejected despite retry_on")
    func tooLarge() throws {
        let body = #"{"code":"resource_exhausted","message":"message size 9 is larger than configured max 8"}"#
        #expect(try Self.outcome(Self.answer("429 No", body: body), #","retry_on":[429]"#).status == .rejected)
    }

    /// Values of retry_on, and the beginning of the error.
    static let problems: [(String, String)] = [
        ("[399]", "endpoint[0].retry_on[0]: must be a status, 400 to 599, is 399"),
        ("[400,600]", "endpoint[0].retry_on[1]: must be a status"),
        ("404", "endpoint[0].retry_on: must be an array of statuses, is a number"),
        (#"["404"]"#, #"endpoint[0].retry_on[0]: must be a status, 400 to 599, is "404""#),
        ("[404.5]", "endpoint[0].retry_on[0]: must be a status, 400 to 599, is 404.5"),
        (#"[429],"retry_on_http_429":false"#, "endpoint[0].retry_on: holds 429, which retry_on_http_429 says is not retried"),
    ]

    @Test("An invalid status in retry_on is refused at its place", arguments: problems)
    func problem(value: String, message: String) throws {
        let lines = try HTTPWriterTests.plugin.get().refusal(of: #"{"endpoint":[{"url":"http://127.0.0.1:1","retry_on":\#(value)}]}"#)
        #expect(lines.count == 1 && lines[0].hasPrefix(message), "\(lines)")
    }

    @Test("retry_on accepts 400, 599 and an empty list", arguments: ["[400,599]", "[]"])
    func edges(value: String) throws { _ = try Self.writer(to: "http://127.0.0.1:1", #","retry_on":\#(value)"#) }
}

@Suite("Messages of destinations for senders", .bothClients)
struct HTTPWriterSenderMessageTests {
    /// The message for the sender after an answer with this status and body.
    private static func message(
        _ status: Int = 400, type: String = "application/json", body: String, _ members: String = "", api: gw_api = .ingest
    ) throws -> String {
        let server = try UpstreamServer { _, _ in
            UpstreamServer.response("\(status) No", headers: "Content-Type: \(type)\r\n", body: body)
        }
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"\#(members)}]}"#)
        return try writer.deliver(TestProfile(api: api)).senderMessage
    }

    /// A Connect error with this message.
    private static func json(_ message: String) throws -> String {
        String(decoding: try JSONEncoder().encode(["code": "invalid_argument", "message": message]), as: UTF8.self)
    }

    @Test(
        "Only 400, 413 and 422 carry the message",
        arguments: [400, 401, 403, 404, 405, 409, 413, 415, 422, 431, 500, 503])
    func statuses(status: Int) throws {
        for api in [gw_api.ingest, .push] {
            let message = try Self.message(status, body: try Self.json("profile too old"), api: api)
            #expect(message == ([400, 413, 422].contains(status) ? "profile too old" : ""))
        }
    }

    @Test("Only the message of a JSON body is passed on, and never HTML")
    func others() throws {
        #expect(try Self.message(body: "profile too old") == "")
        #expect(try Self.message(body: #"{"code":"a"}"#) == "")
        #expect(try Self.message(body: #"{"message":7}"#) == "")
        #expect(try Self.message(type: "text/html", body: try Self.json("too old")) == "")
        #expect(try Self.message(body: try Self.json("<html><body>No</body>")) == "")
        #expect(try Self.message(body: try Self.json("proxy: <!DOCTYPE html>")) == "proxy: <!DOCTYPE html>")
        #expect(try Self.message(type: "text/plain", body: try Self.json("<nil> labels")) == "<nil> labels")
    }

    @Test("The message is cut to 256 bytes, in whole characters, and printable", arguments: [255, 256, 257])
    func length(count: Int) throws {
        #expect(try Self.message(body: try Self.json(String(repeating: "a", count: count))).utf8.count == min(count, 256))
        #expect(try Self.message(body: try Self.json(String(repeating: "ü", count: count))).utf8.count == 256)
        #expect(try Self.message(body: try Self.json("a\u{0}b\r\nc\u{1b}[31m\u{202e}d")) == "a b  c [31m d")
    }

    /// Members with a secret, and a form in which a destination may repeat it.
    static let secrets: [(members: String, said: String)] = [
        (#""bearer_token":"hunter2""#, "hunter2"), (#""bearer_token":"hunter2""#, "Bearer hunter2"),
        (#""bearer_token":"hunter2""#, "aHVudGVyMg=="), (#""bearer_token":"hunter2""#, "aHVudGVyMg"),
        (#""authorization":{"type":"Token","credentials":"a b/c+d"}"#, "a%20b%2Fc%2Bd"),
        (#""authorization":{"type":"Token","credentials":"a b/c+d"}"#, "a%20b%2fc%2bd"),
        (#""authorization":{"type":"Token","credentials":"a b/c+d"}"#, "a+b%2Fc%2Bd"),
        (#""basic_auth":{"username":"us","password":"pass-word"}"#, "pass-word"),
        (#""basic_auth":{"username":"us","password":"pass-word"}"#, "dXM6cGFzcy13b3Jk"),
        (#""headers":{"X-Api-Key":"k3y-k3y"}"#, "k3y-k3y"), (#""headers":{"Cookie":"session=abcdef"}"#, "session=abcdef"),
        (
            #""proxy_connect_header":{"Proxy-Authorization":"Basic Zm9vYmFy"},"proxy_url":"http://127.0.0.1:PORT","no_proxy":"127.0.0.1""#,
            "Zm9vYmFy"
        ),
        (#""proxy_url":"http://u:pr%21xypw@127.0.0.1:9","no_proxy":"127.0.0.1""#, "pr!xypw"),
    ]

    @Test("A secret that a destination repeats is removed in every form", arguments: secrets)
    func secret(members: String, said: String) throws {
        let members = "," + members.replacing("PORT", with: "9")
        for text in [
            "token \(said) is unknown", "x\(said)y", "\(said)\u{301}", "\(said)\(said)", String(repeating: "-", count: 250) + said,
        ] {
            let message = try Self.message(body: try Self.json(text), members)
            #expect(!message.contains(said.prefix(6)), "\(message)")
            #expect(message.hasPrefix(text.prefix { $0 != said.first }))
        }
    }

    @Test("Texts of up to five bytes are not treated as secrets")
    func short() throws {
        #expect(try Self.message(body: try Self.json("label is wrong"), #","bearer_token":"label""#) == "label is wrong")
        #expect(try Self.message(body: try Self.json("labels are wrong"), #","bearer_token":"labels""#) == "[secret] are wrong")
    }

    @Test("OAuth2 tokens and client secrets are removed too")
    func oauth2() throws {
        let tokens = try UpstreamServer { _, _ in UpstreamServer.response("200 OK", body: #"{"access_token":"t0ken-t0ken"}"#) }
        let members = #","oauth2":{"client_id":"a","client_secret":"s3cr3t","token_url":"\#(tokens.url)"}"#
        let said = try Self.json("t0ken-t0ken of s3cr3t is over")
        #expect(try Self.message(body: said, members) == "[secret] of [secret] is over")
    }

    @Test("With several endpoints the message of the first that rejects is used, and a retry has none")
    func several() throws {
        let refusing = try (0..<2).map { number in
            try UpstreamServer { _, _ in UpstreamServer.response("400 No", body: #"{"message":"reason \#(number)"}"#) }
        }
        let shaky = try UpstreamServer { index, _ in UpstreamServer.response(index == 0 ? "503 No" : "200 OK") }
        let endpoints = (refusing + [shaky]).map { #"{"url":"\#($0.url)"}"# }.joined(separator: ",")
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints)]}"#)
        let first = try writer.deliver(TestProfile())
        #expect(first.status == .retry && first.senderMessage == "")
        let second = try writer.deliver(TestProfile(), attempt: 2, progress: first.progress)
        #expect(second.status == .rejected && ["reason 0", "reason 1"].contains(second.senderMessage))
    }
}
