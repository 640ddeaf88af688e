import Foundation
import Glibc
import PluginABI
import Testing

@testable import TestSupport

/// HTTPWriter with one endpoint, and the requests that it sends.
/// Runs each test twice: with HTTPWriter's own client, and with libcurl.
struct BothClients: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        for client in ["auto", "libcurl"] { try await HTTPWriterTests.$client.withValue(client) { try await function() } }
    }
}

extension Trait where Self == BothClients {
    static var bothClients: BothClients { BothClients() }
}

@Suite("HTTPWriter through its shared object", .bothClients)
struct HTTPWriterTests {
    static let plugin = Result { try LoadedPlugin.release("HTTPWriter") }

    /// The client of the endpoints; see ``BothClients``.
    @TaskLocal static var client = "auto"

    /// Creates an instance with this config.
    static func writer(_ config: String, _ host: TestHost = TestHost()) throws -> LoadedInstance {
        try plugin.get().create(config.replacing(#"{"url":"#, with: #"{"client":"\#(client)","url":"#), host)
    }

    /// Creates a writer with one endpoint.
    ///
    /// - Parameter members: further members of the endpoint, each after a comma.
    private func writer(to url: String, _ members: String = "", host: TestHost = TestHost()) throws -> LoadedInstance {
        try Self.writer(#"{"endpoint":[{"url":"\#(url)"\#(members)}]}"#, host)
    }

    // MARK: The request

    @Test("The request contains what the sender sent, plus the writer's own headers")
    func request() throws {
        let server = try UpstreamServer(always: "200 OK")
        let query = "name=checkout%7Benv%3Dprod%7D&format=jfr&from=now-10s&x=%2f%2F&&y=a+b"
        let profile = TestProfile(
            tenant: "team-a", query: query, format: "jfr", contentType: "application/x-jfr; v=2", contentEncoding: "gzip",
            headers: [("user-agent", "pyroscope-java/1"), ("traceparent", "00-1")], samples: [("", Array("recording\0\r\n\u{1}".utf8))])
        #expect(try writer(to: server.url).deliver(profile).status == .delivered)
        let request = try #require(server.requests.first)
        #expect(request.head.hasPrefix("POST /ingest?\(query) HTTP/1.1\r\n"))
        #expect(request.body == Array("recording\0\r\n\u{1}".utf8))
        #expect(
            request.headers == [
                "Accept: */*", "Content-Encoding: gzip", "Content-Length: 13", "Content-Type: application/x-jfr; v=2",
                "Host: 127.0.0.1:\(server.port)", "User-Agent: profile-gateway/0.2.0", "X-Scope-OrgID: team-a",
                "traceparent: 00-1",
            ])
    }

    @Test("Nothing is added for what the sender left out")
    func bareRequest() throws {
        let server = try UpstreamServer(always: "200 OK")
        #expect(try writer(to: server.url).deliver(TestProfile(query: "", samples: [("", [])])).status == .delivered)
        let request = try #require(server.requests.first)
        #expect(request.head.hasPrefix("POST /ingest HTTP/1.1\r\n"))
        #expect(request.body == [])
        #expect(
            request.headers == [
                "Accept: */*", "Content-Length: 0", "Host: 127.0.0.1:\(server.port)", "User-Agent: profile-gateway/0.2.0",
            ])
    }

    @Test("A large body arrives byte for byte, without Expect: 100-continue")
    func largeBody() throws {
        let server = try UpstreamServer(always: "200 OK")
        let bytes = (0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
        #expect(try writer(to: server.url).deliver(TestProfile(samples: [("", bytes)])).status == .delivered)
        let request = try #require(server.requests.first)
        #expect(request.body == bytes)
        #expect(!request.head.lowercased().contains("expect:"))
        #expect(!request.head.lowercased().contains("transfer-encoding"))
    }

    @Test(
        "The path of the URL precedes the path of the request",
        arguments: [
            ("", "/ingest"), ("/", "/ingest"), ("/base", "/base/ingest"), ("/base/", "/base/ingest"), ("/a/b%20c", "/a/b%20c/ingest"),
            ("/a/../b", "/a/../b/ingest"),
        ])
    func paths(path: String, expected: String) throws {
        let server = try UpstreamServer(always: "200 OK")
        #expect(try writer(to: server.url + path).deliver(TestProfile(query: "name=a")).status == .delivered)
        #expect(server.requests.first?.target == "\(expected)?name=a")
    }

    @Test("A scheme in capitals is accepted, and the URL's path is kept")
    func capitalScheme() throws {
        let server = try UpstreamServer(always: "200 OK")
        let url = "HTTP://127.0.0.1:\(server.port)/base"
        #expect(try writer(to: url).deliver(TestProfile(query: "name=a")).status == .delivered)
        #expect(server.requests.first?.target == "/base/ingest?name=a")
    }

    @Test("The path that the sender used is kept")
    func senderPath() throws {
        let server = try UpstreamServer(always: "200 OK")
        #expect(try writer(to: server.url).deliver(TestProfile(path: "/pyroscope/ingest", query: "name=a")).status == .delivered)
        #expect(server.requests.first?.target == "/pyroscope/ingest?name=a")
    }

    @Test("Configured headers are added, and override those passed on")
    func headers() throws {
        let server = try UpstreamServer(always: "200 OK")
        let members = #","headers":{"Authorization":"Bearer t0ken","x-scope-orgid":"fixed","User-Agent":"mine/2"}"#
        let writer = try writer(to: server.url, members)
        #expect(try writer.deliver(TestProfile(tenant: "team-a", contentType: "text/plain")).status == .delivered)
        let headers = try #require(server.requests.first).headers
        #expect(headers.contains("Authorization: Bearer t0ken"))
        #expect(headers.contains("User-Agent: mine/2"))
        #expect(headers.filter { $0.lowercased().hasPrefix("x-scope-orgid") } == ["x-scope-orgid: fixed"])
        #expect(headers.filter { $0.lowercased().hasPrefix("user-agent") }.count == 1)
        #expect(headers.contains("Content-Type: text/plain"))
    }

    @Test("Proxies of the environment are ignored")
    func noProxy() async throws {
        await #expect(processExitsWith: .success) {
            let proxy = try UpstreamServer(always: "502 Bad Gateway")
            for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
                setenv(name, proxy.url, 1)
            }
            let server = try UpstreamServer(always: "200 OK")
            let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"}]}"#)
            #expect(try writer.deliver(TestProfile()).status == .delivered)
            #expect(proxy.requests.isEmpty)
            #expect(server.requests.count == 1)
            writer.destroy()
        }
    }

    // MARK: External labels

    @Test("An external label that changes a value rewrites name, sorted, and nothing else of the query")
    func externalLabels() throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(
            #"{"endpoint":[{"url":"\#(server.url)"}],"external_labels":{"region":"eu west","env":"staging"}}"#)
        let profile = TestProfile(query: "format=pprof&name=checkout%7Benv%3Dprod%7D&x=%2f&name=second")
        #expect(try writer.deliver(profile).status == .delivered)
        let target = try #require(server.requests.first?.target)
        let parts = target.dropFirst("/ingest?".count).split(separator: "&").map(String.init)
        #expect(parts.count == 4)
        #expect(parts.first == "format=pprof")
        #expect(parts.suffix(2) == ["x=%2f", "name=second"])
        let name = parts.dropFirst().first?.dropFirst("name=".count).replacing("+", with: " ").removingPercentEncoding
        #expect(name == "checkout{env=staging,region=eu west}")
    }

    @Test("External labels that a profile already has leave its query unchanged")
    func sameExternalLabels() throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)"}],"external_labels":{"env":"prod"}}"#)
        #expect(try writer.deliver(TestProfile(query: "name=checkout%7benv=prod}&format=pprof")).status == .delivered)
        #expect(server.requests.first?.target == "/ingest?name=checkout%7benv=prod}&format=pprof")
    }

    @Test("Labels that name= cannot carry are rejected", arguments: ["a,b", "a}b", "a\nb", " a", "a\u{7f}"])
    func unwritableLabels(value: String) throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer(#"{"endpoint":[{"url":"\#(server.url)"}],"external_labels":{"region":"eu"}}"#)
        let labels = [("__name__", "checkout"), ("note", value), ("service_name", "checkout")] as [TestProfile.Pair]
        let outcome = try writer.deliver(TestProfile(labels: labels))
        #expect(outcome.status == .rejected)
        #expect(outcome.reason.contains("note"))
        #expect(server.requests.isEmpty)
    }

    // MARK: Answers

    @Test("Every 2xx without a body counts as delivered", arguments: ["200 OK", "201 Created", "204 No Content", "299 Odd"])
    func delivered(status: String) throws {
        let server = try UpstreamServer(always: status)
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .delivered)
        #expect(outcome.retryAfter == .zero)
    }

    @Test(
        "Permanent failures are rejected with the upstream's message",
        arguments: [400, 401, 403, 404, 405, 411, 413, 415, 422, 451, 499])
    func rejected(status: Int) throws {
        let server = try UpstreamServer(always: "\(status) No", body: #"{"code":"invalid_argument","message":"profile too old"}"#)
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .rejected)
        #expect(outcome.httpStatus == UInt32(status))
        #expect(outcome.reason.contains("\(status)"))
        #expect(outcome.reason.contains("profile too old"))
    }

    @Test("Transient failures are retried", arguments: [408, 429, 500, 502, 503, 504, 529])
    func retry(status: Int) throws {
        let server = try UpstreamServer(always: "\(status) No", body: "try later")
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.httpStatus == UInt32(status))
        #expect(outcome.reason.contains("try later"))
        #expect(outcome.retryAfter == .zero)
        #expect(outcome.progress == 0)
    }

    @Test("Retry-After of 429 and 503 is returned", arguments: [429, 503])
    func retryAfter(status: Int) throws {
        let server = try UpstreamServer(always: "\(status) No", headers: "Retry-After: 7\r\n")
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.retryAfter == .seconds(7))
    }

    @Test("A Retry-After with a date is converted to a duration")
    func retryAfterDate() throws {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = TimeZone(identifier: "GMT")
        format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        let date = format.string(from: Date(timeIntervalSinceNow: 600))
        let server = try UpstreamServer(always: "503 No", headers: "Retry-After: \(date)\r\n")
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.retryAfter > .seconds(500) && outcome.retryAfter <= .seconds(600))
    }

    @Test("An invalid Retry-After is ignored", arguments: ["soon", "-5", ""])
    func badRetryAfter(value: String) throws {
        let server = try UpstreamServer(always: "503 No", headers: "Retry-After: \(value)\r\n")
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.retryAfter == .zero)
    }

    @Test("A 429 for a message that is too large is rejected")
    func tooLarge() throws {
        let body = #"{"code":"resource_exhausted","message":"message size 9 is larger than configured max 8"}"#
        let server = try UpstreamServer(always: "429 Too Many Requests", body: body)
        #expect(try writer(to: server.url).deliver(TestProfile()).status == .rejected)
    }

    @Test("An upstream's message is cut and escaped")
    func longReason() throws {
        let server = try UpstreamServer(always: "400 No", body: "\u{1b}[31mred\r\n" + String(repeating: "x", count: 300_000))
        let outcome = try writer(to: server.url).deliver(TestProfile())
        #expect(outcome.status == .rejected)
        #expect(outcome.reason.utf8.count < 2048)
        #expect(!outcome.reason.utf8.contains { $0 < 0x20 })
    }

    @Test("An unreachable server causes a retry")
    func refused() throws {
        // The port is bound but not listening, so nobody else can take it.
        let (bound, port) = try TestSocket.bound()
        let outcome = try withExtendedLifetime(bound) { try writer(to: "http://127.0.0.1:\(port)").deliver(TestProfile()) }
        #expect(outcome.status == .retry)
        #expect(outcome.httpStatus == 0)
        #expect(outcome.reason != "")
    }

    @Test("A server that closes the connection or speaks no HTTP causes a retry", arguments: [nil, "SSH-2.0-OpenSSH_9.2\r\n\r\n"])
    func noAnswer(text: String?) throws {
        let server = try UpstreamServer { _, _ in text }
        // In the second case libcurl would wait for more of the answer until the timeout.
        let outcome = try writer(to: server.url, #","remote_timeout":"2s""#).deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.reason != "")
    }

    @Test("No answer within remote_timeout causes a retry")
    func timeout() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        let outcome = try writer(to: server.url, #","remote_timeout":"150ms""#).deliver(TestProfile())
        gate.open()
        #expect(outcome.status == .retry)
        #expect(outcome.reason.lowercased().contains("time"))
    }

    @Test("A reason never contains a header's secret")
    func noSecrets() throws {
        let host = TestHost()
        let server = try UpstreamServer(always: "401 Unauthorized")
        let writer = try writer(to: server.url, #","headers":{"Authorization":"Bearer hunter2"}"#, host: host)
        for _ in 0..<6 { #expect(try !writer.deliver(TestProfile()).reason.contains("hunter2")) }
        let said = host.said.current
        #expect(!"\(said)".contains("hunter2"))
    }

    // MARK: Connections

    @Test("Sequential deliveries share a connection, whatever the answers are")
    func connectionReuse() throws {
        let statuses = ["200 OK", "500 No", "429 No", "400 No", "204 No Content", "200 OK"]
        let server = try UpstreamServer { index, _ in
            // An answer that exceeds the length of a reason is still read to its end.
            UpstreamServer.response(statuses[index], body: index == 4 ? "" : String(repeating: "b", count: 100_000))
        }
        let writer = try writer(to: server.url)
        for _ in statuses { _ = try writer.deliver(TestProfile()) }
        #expect(server.requests.map(\.connection) == [0, 0, 0, 0, 0, 0])
    }

    @Test("A chunked answer is read to its end")
    func chunkedAnswer() throws {
        let server = try UpstreamServer { index, _ in
            index == 0
                ? "HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntoo\r\n5\r\n late\r\n0\r\n\r\n"
                : UpstreamServer.response("200 OK")
        }
        let writer = try writer(to: server.url)
        #expect(try writer.deliver(TestProfile()).reason.contains("too late"))
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(server.requests.map(\.connection) == [0, 0])
    }

    @Test("A connection that the server has closed is replaced")
    func closedMeanwhile() throws {
        let server = try UpstreamServer { _, request in
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        }
        let writer = try writer(to: server.url)
        for _ in 0..<3 { #expect(try writer.deliver(TestProfile()).status == .delivered) }
    }

    @Test("All open deliveries run at once, and each ends once")
    func manyAtOnce() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        let host = TestHost()
        let writer = try writer(to: server.url, host: host)
        let profiles = (0..<64).map { TestProfile(sequence: UInt64($0), samples: [("", Array("body \($0)".utf8))]) }
        let tokens = profiles.map { writer.begin($0) }
        let requests = try server.requests(64)
        #expect(Set(requests.map { String(decoding: $0.body, as: UTF8.self) }) == Set((0..<64).map { "body \($0)" }))
        gate.open()
        for token in tokens { #expect(try host.outcome(of: token).status == .delivered) }
        writer.destroy()
        #expect(host.said.current.finishes.count == 64)
    }

    // MARK: Abort, flush and destroy

    @Test("Abort ends every open delivery once, as aborted")
    func abort() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        let host = TestHost()
        let writer = try writer(to: server.url, host: host)
        let profiles = (0..<8).map { TestProfile(sequence: UInt64($0)) }
        let tokens = profiles.map { writer.begin($0) }
        _ = try server.requests(8)
        writer.abort()
        for token in tokens { #expect(try host.outcome(of: token).status == .aborted) }
        writer.destroy()
        gate.open()
        #expect(host.said.current.finishes.count == 8)
    }

    @Test("A profile is not accessed after its delivery is finished, also when it is aborted within its body")
    func untouchedAfterFinish() async throws {
        await #expect(processExitsWith: .success) {
            let server = try UpstreamServer { index, _ in UpstreamServer.response(index % 3 == 0 ? "500 No" : "200 OK") }
            // This socket accepts but reads nothing, so that large bodies stay half sent.
            let (deaf, port) = try TestSocket.bound()
            try #require(listen(deaf.number, 64) == 0)
            let host = TestHost()
            let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"}]}"#, host)
            let tokens = (0..<60).map { number in
                writer.begin(
                    TestProfile(sequence: UInt64(number), samples: [("", [UInt8](repeating: 1, count: 50_000))]), isForbiddenAfter: true)
            }
            for token in tokens { _ = try host.outcome(of: token) }
            writer.destroy()
            let aborted = TestHost()
            let stuck = try HTTPWriterTests.writer(
                #"{"endpoint":[{"url":"http://127.0.0.1:\#(port)"},{"url":"\#(server.url)"}]}"#, aborted)
            let open = (0..<8).map { number in
                stuck.begin(
                    TestProfile(sequence: UInt64(number), samples: [("", [UInt8](repeating: 1, count: 8 << 20))]), isForbiddenAfter: true)
            }
            // The other endpoint has all of them, so the bodies to the first one are being sent.
            _ = try server.requests(68)
            stuck.abort()
            for token in open { #expect(try aborted.outcome(of: token).status == .aborted) }
            stuck.destroy()
            withExtendedLifetime(deaf) {}
            #expect(TestHost.retained.current.values.allSatisfy { $0 == 0 })
        }
    }

    @Test("A flush finishes after all earlier deliveries")
    func flush() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        let host = TestHost()
        let writer = try writer(to: server.url, host: host)
        let profile = TestProfile()
        let token = writer.begin(profile)
        _ = try server.requests(1)
        let flush = writer.flush()
        #expect(!host.said.current.finishes.contains { $0.token == flush })
        gate.open()
        #expect(try host.outcome(of: token).status == .delivered)
        #expect(try host.outcome(of: flush).status == .delivered)
        #expect(host.said.current.finishes.map(\.token) == [token, flush])
    }

    @Test("Each of several flushes waits for what was begun before it, in whatever order that ends, and for nothing later")
    func flushes() throws {
        // The requests are answered in another order than they came.
        let gates = (0..<4).map { _ in Gate() }
        let server = try UpstreamServer { index, _ in
            gates[index].wait()
            return UpstreamServer.response("200 OK")
        }
        let host = TestHost()
        let writer = try writer(to: server.url, host: host)
        let profiles = (1...4).map { TestProfile(sequence: UInt64($0)) }
        func begin(_ index: Int) throws -> UInt {
            let token = writer.begin(profiles[index])
            _ = try server.requests(index + 1)
            return token
        }
        let (first, second) = (try begin(0), try begin(1))
        let early = writer.flush()
        let third = try begin(2)
        // Nothing is begun between these two.
        let (middle, late) = (writer.flush(), writer.flush())
        let fourth = try begin(3)
        var order: [UInt] = []
        for (gate, ends) in [(3, [fourth]), (1, [second]), (2, [third]), (0, [first, early, middle, late])] {
            gates[gate].open()
            for token in ends { #expect(try host.outcome(of: token).status == .delivered) }
            order += ends
        }
        #expect(host.said.current.finishes.map(\.token) == order)
    }

    @Test("An instance without deliveries opens no connection and ends")
    func unused() throws {
        let server = try UpstreamServer(always: "200 OK")
        try writer(to: server.url).destroy()
        #expect(server.requests.isEmpty)
    }

    // MARK: Health and metrics

    @Test("An endpoint that keeps failing makes the receiver failed, and a success makes it ok again")
    func health() throws {
        let server = try UpstreamServer { index, _ in UpstreamServer.response(index < 5 ? "503 No" : "200 OK", body: "maintenance") }
        let host = TestHost()
        let writer = try writer(to: server.url, #","name":"production""#, host: host)
        for sequence in 0..<5 { #expect(try writer.deliver(TestProfile(sequence: UInt64(sequence))).status == .retry) }
        let reason = try host.health("failed") { $0 == .failed }
        #expect(reason.contains("production"))
        #expect(reason.contains("maintenance"))
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        _ = try host.health("ok", after: 1) { $0 == .ok }
    }

    @Test("Alloy's counters show the results of each endpoint")
    func metrics() throws {
        let statuses = ["200 OK", "400 No", "500 No", "200 OK"]
        let server = try UpstreamServer { index, _ in UpstreamServer.response(statuses[index]) }
        let host = TestHost()
        let writer = try writer(to: server.url, #","name":"production""#, host: host)
        for attempt in [1, 1, 1, 2] as [UInt32] { _ = try writer.deliver(TestProfile(), attempt: attempt) }
        // Counters may be updated after the outcome is sent, and are final after destroy.
        writer.destroy()
        let labels = ["endpoint": "production"]
        #expect(host.value("pyroscope_write_sent_profiles_total", labels) == 2)
        #expect(host.value("pyroscope_write_sent_bytes_total", labels) == 14)
        #expect(host.value("pyroscope_write_dropped_profiles_total", labels) == 1)
        #expect(host.value("pyroscope_write_dropped_bytes_total", labels) == 7)
        #expect(host.value("pyroscope_write_retries_total", labels) == 1)
        let connections = ["opened", "reused"].map { host.value("pyroscope_write_connections_\($0)_total", labels) ?? 0 }
        #expect(connections.reduce(0, +) == 4)
        #expect(host.value("pyroscope_write_wire_bytes_total", labels) ?? 0 > 4 * 100)
        let kinds = host.said.current.metrics.filter { $0.kind != .counter }
        #expect(kinds.map(\.name) == ["pyroscope_write_latency"] && kinds[0].kind == .seconds)
    }
}
