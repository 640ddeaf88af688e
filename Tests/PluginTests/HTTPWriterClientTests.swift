import Foundation
import Glibc
import PluginABI
import Testing

@testable import TestSupport

@Suite("The two HTTP clients of HTTPWriter")
struct HTTPWriterClientTests {
    private static let clients = ["auto", "libcurl"]

    private static func writer(_ config: String) throws -> LoadedInstance { try HTTPWriterTests.plugin.get().create(config, TestHost()) }

    /// What came of a delivery.
    private struct Fate: Equatable, CustomStringConvertible {
        var status: gw_status
        var httpStatus: UInt32
        var retryAfter: Duration
        var senderMessage: String
        /// The connections of this delivery and of the next one.
        var connections: [Int]

        var description: String { "\(status) \(httpStatus) \(retryAfter) \(senderMessage.debugDescription) \(connections)" }
    }

    /// Delivers a profile that gets this answer, and another one that gets a good one.
    private static func deliver(
        _ client: String, _ answer: String, closes: Bool = false, api: gw_api = .ingest
    ) throws -> (fate: Fate, reason: String) {
        let server = try UpstreamServer(closes: closes) { index, _ in index == 0 ? answer : UpstreamServer.response("200 OK") }
        let writer = try writer(
            #"{"endpoint":[{"url":"\#(server.url)","name":"up","client":"\#(client)","remote_timeout":"5s"}]}"#)
        let outcome = try writer.deliver(TestProfile(api: api))
        #expect(try writer.deliver(TestProfile(sequence: 2, api: api)).status == .delivered)
        let fate = Fate(
            status: outcome.status, httpStatus: outcome.httpStatus, retryAfter: outcome.retryAfter, senderMessage: outcome.senderMessage,
            connections: server.requests.map(\.connection))
        return (fate, outcome.reason)
    }

    private static func ok(_ fields: String, _ body: String = "") -> String { "HTTP/1.1 200 OK\r\n\(fields)\r\n\(body)" }
    private static let chunked = "Transfer-Encoding: chunked\r\n"
    private static let ended = "Content-Length: 0\r\n"

    // MARK: Answers that both take alike

    /// Answers after which the connection stays open.
    static let answers: [String] = [
        ok(ended), ok("content-length:3\r\n", "abc"), "HTTP/1.1 200\r\n\(ended)\r\n", "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", ok(chunked, "3\r\nabc\r\n0\r\n\r\n"),
        ok(chunked, "3;a=b\r\nabc\r\n000\r\nT: u\r\n\r\n"),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok(ended),
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 503 No\r\nRetry-After: 9\r\n\(ended)\r\n", "HTTP/1.1 999 Odd\r\n\(ended)\r\n",
        "HTTP/1.1 600 Odd\r\n\(ended)\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\(ended)\r\n",
        "HTTP/1.0 200 OK\r\n\(ended)\r\n", ok("\(ended)Connection: close\r\n"),
        ok("Content-Encoding: gzip\r\nContent-Length: 3\r\n", "abc"), "HTTP/1.1 429 No\r\nRetry-After: 0\r\n\(ended)\r\n",
        "HTTP/1.1 429 No\r\nRetry-After: 12abc\r\n\(ended)\r\n", "HTTP/1.1 503 No\r\nRetry-After: 99999999999999999999\r\n\(ended)\r\n",
        "HTTP/1.1 503 No\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n\(ended)\r\n",
        "HTTP/1.1 503 No\r\nRetry-After: 1\r\nRetry-After: 2\r\n\(ended)\r\n",
        UpstreamServer.response("400 No", headers: "Content-Type: application/json\r\n", body: #"{"message":"too old"}"#),
        "HTTP/1.1 400 No\r\nContent-Type: text/html\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"message\":\"old\"}",
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=a\r\n\(ended)\r\n", "HTTP/1.1 307 Go\r\n\(ended)\r\n",
        "HTTP/1.1 307 Go\r\nLocation: \r\n\(ended)\r\n", "HTTP/1.1 302 Go\r\nLocation: http://localhost:1/\r\n\(ended)\r\n",
        "HTTP/1.1 302 Go\r\nLocation: ftp://127.0.0.1/\r\n\(ended)\r\n",
        "HTTP/1.1 301 Go\r\nLocation: //127.0.0.1:1/x\r\n\(ended)\r\n", "HTTP/1.1 303 Go\r\nLocation: /x\r\n\(ended)\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\(ended)\r\n",
        ok("Content-Length: 1048577\r\n", String(repeating: "x", count: 1 << 20 + 1)),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", ok("Content-Length: 1x\r\n"),
        ok(chunked, "x\r\nabc\r\n0\r\n\r\n"),
        ok(chunked, "12345678901234567\r\nabc\r\n0\r\n\r\n"), ok("A: b\0c\r\n\(ended)"),
    ]

    @Test("Both clients judge an answer alike", arguments: answers, [gw_api.ingest, .push])
    func alike(answer: String, api: gw_api) throws {
        let fates = try Self.clients.map { try Self.deliver($0, answer, api: api).fate }
        #expect(fates[0] == fates[1], "\(answer.prefix(200).debugDescription)")
    }

    /// Answers after which the server closes the connection.
    static let cut: [String] = [
        "", ok(""), ok("", "until the end"), "HTTP/1.0 200 OK\r\n\r\nbye", "HTTP/1.1 400 No\r\n\r\nuntil the end",
        ok("Content-Length: 10\r\n", "abc"), ok(chunked, "3\r\nabc\r\n"),
        ok(chunked, "3\r\nabc\r\n0\r\n"), "HTTP/1.1 200 OK\r\nTransfer-Enc", "HTTP/1.1 200 OK", "HTTP/1.1 100 Continue\r\n\r\n", "HTT",
        ok(ended), "HTTP/1.1 503 No\r\nRetry-After: 3\r\n\r\n",
        "HTTP/1.1 307 Go\r\nLocation: /x\r\n\r\n",
    ]

    @Test("Both clients judge an answer alike that ends with its connection", arguments: cut, [gw_api.ingest, .push])
    func alikeAtTheEnd(answer: String, api: gw_api) throws {
        let fates = try Self.clients.map { try Self.deliver($0, answer, closes: true, api: api).fate }
        #expect(fates[0] == fates[1], "\(answer.debugDescription)")
    }

    /// Answers that both judge alike, but with other connections: the own client uses none again that said more than the answer, and
    /// leaves redirects to libcurl's own ones.
    static let elsewhere: [(answer: String, own: [Int], libcurl: [Int])] = [
        (ok(ended, "GARBAGE"), [0, 1], [0, 0]), (ok(ended) + ok(ended), [0, 1], [0, 0]),
        ("HTTP/1.1 308 Go\r\nLocation: next?x=1#y\r\n\(ended)\r\n", [0, 1, 0], [0, 0, 0]),
    ]

    @Test("Both clients judge an answer alike, though on other connections", arguments: elsewhere)
    func alikeElsewhere(row: (answer: String, own: [Int], libcurl: [Int])) throws {
        for (client, connections) in zip(Self.clients, [row.own, row.libcurl]) {
            let fate = try Self.deliver(client, row.answer).fate
            #expect(fate.status == .delivered && fate.connections == connections, "\(client)")
        }
    }

    // MARK: Answers that only libcurl takes

    /// Answers that two readers may read in two ways, with what HTTPWriter's own client says of them.
    static let strict: [(answer: String, words: String)] = [
        ("HTTP/1.1 200 OK\n\(ended)\r\n", "a line that ends in LF without CR"), (ok("\(ended)A: b\n"), "a line that ends in LF without CR"),
        (ok("A: b\r\n c\r\n\(ended)"), "a folded header line"), (ok("\(ended)Content-Length: 0\r\n"), "more than one Content-Length"),
        (ok("Content-Length: 4\r\n\(chunked)", "0\r\n\r\n"), "both Content-Length and Transfer-Encoding"),
        (ok("A : b\r\n\(ended)"), "a header line without a proper name and colon"),
        (ok("A: b\u{1}c\r\n\(ended)"), "a header value with a control character"),
        (ok(chunked, "1\na\r\n0\r\n\r\n"), "a line that ends in LF without CR"),
        (String(repeating: "HTTP/1.1 102 On\r\n\r\n", count: 65) + ok(ended), "more than 64 interim answers"),
    ]

    @Test("HTTPWriter's own client is stricter than libcurl", arguments: strict)
    func stricter(row: (answer: String, words: String)) throws {
        let own = try Self.deliver("auto", row.answer)
        #expect(own.fate.status == .retry && own.fate.httpStatus == 0 && own.fate.connections == [0, 1])
        #expect(own.reason == "up: the answer has \(row.words)")
        #expect(try Self.deliver("libcurl", row.answer).fate.status == .delivered)
    }

    // MARK: Connections

    @Test("Connections that end with their request, because another one was lost, count against the endpoint's descriptors")
    func lost() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, request in
            if request.target.contains("lost") { return nil }
            if request.target.contains("slow") { gate.wait() }
            return UpstreamServer.response("200 OK")
        }
        // Room for four connections.
        let host = TestHost(descriptorShare: 12)
        let writer = try HTTPWriterTests.plugin.get().create(#"{"endpoint":[{"url":"\#(server.url)"}]}"#, host)
        let slow = (1...3).map { TestProfile(sequence: $0, query: "name=slow") }
        let open = slow.map { writer.begin($0) }
        #expect(try writer.deliver(TestProfile(sequence: 4, query: "name=lost")).status == .retry)
        let others = (5...40).map { TestProfile(sequence: $0) }
        let tokens = others.map { writer.begin($0) }
        let statuses = try withExtendedLifetime(others) { try tokens.map { try host.outcome(of: $0).status } }
        #expect(statuses.allSatisfy { $0 == .delivered })
        #expect(Set(server.requests.map(\.connection)).count == 5)
        gate.open()
        let late = try withExtendedLifetime(slow) { try open.map { try host.outcome(of: $0).status } }
        #expect(late.allSatisfy { $0 == .delivered })
        let more = (41...80).map { TestProfile(sequence: $0) }
        let before = server.requests.count
        let rest = more.map { writer.begin($0) }
        #expect(try withExtendedLifetime(more) { try rest.map { try host.outcome(of: $0).status } }.allSatisfy { $0 == .delivered })
        #expect(Set(server.requests.dropFirst(before).map(\.connection)).count <= 4)
    }

    @Test("Bytes that nobody asked for close an idle connection")
    func unsolicited() throws {
        let server = try UpstreamServer { _, _ in Self.ok(Self.ended) + "HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n" }
        let writer = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)"}]}"#)
        for sequence in 1...3 as ClosedRange<UInt64> { #expect(try writer.deliver(TestProfile(sequence: sequence)).status == .delivered) }
        #expect(server.requests.map(\.connection) == [0, 1, 2])
    }

    @Test("A connection that the server closes while it is idle is closed too")
    func closedIdle() throws {
        let server = try UpstreamServer(closes: true) { _, _ in Self.ok(Self.ended) }
        let writer = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)"}]}"#)
        for sequence in 1...20 as ClosedRange<UInt64> { #expect(try writer.deliver(TestProfile(sequence: sequence)).status == .delivered) }
        #expect(server.requests.map(\.connection) == Array(0..<20))
    }

    @Test(
        "A request on a reused connection that ends without a byte is sent again once, and one on a new connection is not",
        arguments: clients)
    func stale(client: String) throws {
        let server = try UpstreamServer { index, _ in index == 0 ? Self.ok(Self.ended) : index == 1 ? nil : Self.ok(Self.ended) }
        let writer = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)","client":"\#(client)"}]}"#)
        for sequence in 1...2 as ClosedRange<UInt64> { #expect(try writer.deliver(TestProfile(sequence: sequence)).status == .delivered) }
        #expect(server.requests.map(\.connection) == [0, 0, 1])
        let deaf = try UpstreamServer { _, _ in nil }
        let other = try Self.writer(#"{"endpoint":[{"url":"\#(deaf.url)","client":"\#(client)"}]}"#)
        #expect(try other.deliver(TestProfile()).status == .retry)
        #expect(deaf.requests.count == 1)
    }

    @Test(
        "A success that comes before the end of the body counts once all of it was sent, and only then", arguments: clients, [true, false])
    func early(client: String, isRead: Bool) throws {
        let (listening, port) = try TestSocket.bound()
        try #require(listen(listening.number, 8) == 0)
        let received = WaitableValue(0)
        Thread.detachNewThread {
            let socket = TestSocket(owning: accept(listening.number, nil, nil))
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let answer = Array(Self.ok(Self.ended).utf8)
            var count = recv(socket.number, &buffer, buffer.count, 0)
            _ = send(socket.number, answer, answer.count, Int32(MSG_NOSIGNAL))
            // Closing a socket with unread bytes resets the connection.
            while count > 0, isRead {
                received.update { $0 += count }
                count = recv(socket.number, &buffer, buffer.count, 0)
            }
        }
        let writer = try Self.writer(#"{"endpoint":[{"url":"http://127.0.0.1:\#(port)","client":"\#(client)"}]}"#)
        let size = 16 << 20
        #expect(
            try writer.deliver(TestProfile(samples: [("", [UInt8](repeating: 1, count: size))])).status == (isRead ? .delivered : .retry))
        writer.destroy()
        if isRead { _ = try received.wait(for: "the whole request") { $0 > size ? true : nil } }
    }

    @Test(
        "The names of this machine need no resolver, and the address at which the server listens is found",
        arguments: ["localhost", "a.LocalHost"])
    func localhost(name: String) throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(#"{"endpoint":[{"url":"http://\#(name):\#(server.port)"}]}"#)
        for sequence in 1...3 as ClosedRange<UInt64> { #expect(try writer.deliver(TestProfile(sequence: sequence)).status == .delivered) }
        #expect(server.requests.map(\.connection) == [0, 0, 0])
        #expect(server.requests.allSatisfy { $0.headers.contains("Host: \(name):\(server.port)") })
    }

    @Test("A refused connection is told in the system's words")
    func refused() throws {
        let (bound, port) = try TestSocket.bound()
        let writer = try Self.writer(#"{"endpoint":[{"url":"http://127.0.0.1:\#(port)","name":"up"}]}"#)
        let outcome = try withExtendedLifetime(bound) { try writer.deliver(TestProfile()) }
        #expect(outcome.reason == "up: cannot connect to 127.0.0.1 port \(port): Connection refused")
    }

    @Test("An unknown name and a silent server are told in words")
    func words() throws {
        let unknown = try Self.writer(#"{"endpoint":[{"url":"http://name.invalid","name":"up","remote_timeout":"60s"}]}"#)
        #expect(try unknown.deliver(TestProfile()).reason.hasPrefix("up: cannot look up name.invalid: "))
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        let silent = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)","name":"up","remote_timeout":"150ms"}]}"#)
        #expect(try silent.deliver(TestProfile()).reason == "up: timed out after 150 ms without an answer")
        gate.open()
    }

    @Test(
        "Both clients send the same head, also with headers of the config",
        arguments: [
            "", #","headers":{"User-Agent":"mine/2","Accept":"a/b"}"#, #","headers":{"User-Agent":"","accept":" ","X-Empty":""}"#,
            #","headers":{"Host":"other.example:7"}"#, #","http_headers":{"X-Two":["a","b"]},"compression":"gzip""#,
            #","headers":{"content-type":"text/x"},"basic_auth":{"username":"u","password":"p"}"#,
        ])
    func heads(members: String) throws {
        var seen: [[String]] = []
        for client in Self.clients {
            let server = try UpstreamServer { _, _ in Self.ok(Self.ended) }
            let writer = try Self.writer(
                #"{"endpoint":[{"url":"\#(server.url)/base","client":"\#(client)"\#(members)}]}"#)
            for api in [gw_api.ingest, .push] {
                let profile = TestProfile(
                    api: api, tenant: "team-a", contentType: "a/b", contentEncoding: "gzip", headers: [("traceparent", "00-1")],
                    samples: [("id", [UInt8](repeating: 7, count: 5000))])
                #expect(try writer.deliver(profile).status == .delivered)
            }
            let requests = server.requests
            seen += [
                requests.map { request in
                    ([String(request.head.prefix { !$0.isNewline })] + request.headers.map { $0.replacing(":\(server.port)", with: "") })
                        .joined(
                            separator: "\n")
                }
            ]
            #expect(requests.allSatisfy { $0.headers.contains("Content-Length: \($0.body.count)") })
        }
        #expect(seen[0] == seen[1])
    }
}
