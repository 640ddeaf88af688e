import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("HTTPWriter with several endpoints", .bothClients)
struct HTTPWriterEndpointTests {
    private func writer(_ servers: [UpstreamServer], host: TestHost = TestHost()) throws -> LoadedInstance {
        let endpoints = servers.enumerated().map { #"{"url":"\#($1.url)","name":"server\#($0)"}"# }
        return try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints.joined(separator: ","))]}"#, host)
    }

    @Test("Delivered means that every endpoint has the profile")
    func all() throws {
        let servers = try (0..<3).map { _ in try UpstreamServer(always: "200 OK") }
        #expect(try writer(servers).deliver(TestProfile()).status == .delivered)
        for server in servers { #expect(server.requests.map(\.body) == [Array("profile".utf8)]) }
    }

    @Test("Thirty-two endpoints are served, each with two bits of progress")
    func thirtyTwo() throws {
        let server = try UpstreamServer { _, request in
            UpstreamServer.response(request.target.hasPrefix("/31/") ? "500 No" : request.target.hasPrefix("/30/") ? "400 No" : "200 OK")
        }
        let endpoints = (0..<32).map { #"{"url":"\#(server.url)/\#($0)"}"# }.joined(separator: ",")
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints)]}"#)
        let outcome = try writer.deliver(TestProfile())
        #expect(outcome.status == .retry)
        #expect(outcome.progress == 1 << 62 | 0x7FFF_FFFF)
        #expect(server.requests.count == 32)
    }

    @Test("An endpoint that already has the profile does not get it again")
    func progress() throws {
        let healthy = try UpstreamServer(always: "200 OK")
        let shaky = try UpstreamServer { index, _ in UpstreamServer.response(index == 0 ? "503 No" : "200 OK", body: "busy") }
        let writer = try writer([shaky, healthy])
        let first = try writer.deliver(TestProfile())
        #expect(first.status == .retry)
        #expect(first.progress == 0b10)
        #expect(first.httpStatus == 503)
        #expect(first.reason.contains("server0"))
        #expect(first.reason.contains("busy"))
        #expect(try writer.deliver(TestProfile(), attempt: 2, progress: first.progress).status == .delivered)
        #expect(healthy.requests.count == 1)
        #expect(shaky.requests.count == 2)
    }

    @Test("A retry keeps the progress bits that it was given")
    func progressAdds() throws {
        let servers = [
            try UpstreamServer(always: "500 No"), try UpstreamServer(always: "500 No"), try UpstreamServer(always: "200 OK"),
        ]
        let outcome = try writer(servers).deliver(TestProfile(), attempt: 2, progress: 0b001)
        #expect(outcome.status == .retry)
        #expect(outcome.progress == 0b101)
        #expect(servers[0].requests.isEmpty)
    }

    @Test("A profile that all endpoints already have is delivered without a request")
    func nothingLeft() throws {
        let servers = try (0..<2).map { _ in try UpstreamServer(always: "500 No") }
        #expect(try writer(servers).deliver(TestProfile(), attempt: 2, progress: 0b11).status == .delivered)
        for server in servers { #expect(server.requests.isEmpty) }
    }

    @Test("A profile that one endpoint rejects is rejected once the others have it, with that endpoint's name")
    func oneRejects() throws {
        let servers = [try UpstreamServer(always: "200 OK"), try UpstreamServer(always: "422 No", body: "too old")]
        let outcome = try writer(servers).deliver(TestProfile())
        #expect(outcome.status == .rejected)
        #expect(outcome.httpStatus == 422)
        #expect(outcome.reason.contains("server1"))
        #expect(outcome.reason.contains("too old"))
        #expect(servers[0].requests.count == 1)
    }

    @Test("An endpoint that rejected a profile does not get it again, and the profile ends as rejected")
    func rejectionThenRetry() throws {
        let refusing = try UpstreamServer(always: "422 No", body: "too old")
        let shaky = try UpstreamServer { index, _ in UpstreamServer.response(index == 0 ? "503 No" : "200 OK") }
        let writer = try writer([refusing, shaky])
        let first = try writer.deliver(TestProfile())
        #expect(first.status == .retry)
        let second = try writer.deliver(TestProfile(), attempt: 2, progress: first.progress)
        #expect(refusing.requests.count == 1)
        #expect(second.status == .rejected)
    }

    @Test("After a restart the progress shows which endpoint rejected the profile", arguments: [0b01, 0b11])
    func refusalAfterRestart(settled: UInt64) throws {
        let servers = try (0..<2).map { _ in try UpstreamServer(always: "200 OK") }
        let outcome = try writer(servers).deliver(TestProfile(), attempt: 2, progress: 1 << 32 | settled)
        #expect(outcome.status == .rejected)
        #expect(outcome.reason == "endpoint server0 refused the profile earlier")
        #expect(outcome.httpStatus == 0)
        #expect(servers.map(\.requests.count) == [0, settled == 0b01 ? 1 : 0])
    }

    @Test("The reason of a new rejection is preferred to the bit of an earlier one, and a retry keeps both")
    func refusals() throws {
        let servers = [
            try UpstreamServer(always: "200 OK"), try UpstreamServer(always: "422 No", body: "too old"),
            try UpstreamServer { index, _ in UpstreamServer.response(index == 0 ? "503 No" : "200 OK") },
        ]
        let writer = try writer(servers)
        let first = try writer.deliver(TestProfile(), attempt: 2, progress: 1 << 32 | 0b001)
        #expect(first.status == .retry)
        #expect(first.progress == 0b011 << 32 | 0b011)
        let second = try writer.deliver(TestProfile(), attempt: 3, progress: first.progress)
        #expect((second.status, second.httpStatus) == (.rejected, 422))
        #expect(second.reason.contains("too old"))
        #expect(servers.map(\.requests.count) == [0, 1, 2])
    }

    @Test("An endpoint that is down fails at once, and the other endpoint continues")
    func down() throws {
        let dead = try UpstreamServer(always: "503 No", headers: "Retry-After: 3600\r\n", body: "asleep")
        let alive = try UpstreamServer(always: "200 OK")
        let host = TestHost()
        let writer = try writer([dead, alive], host: host)
        let began = ContinuousClock.now
        for sequence in 0..<20 {
            let outcome = try writer.deliver(TestProfile(sequence: UInt64(sequence)))
            #expect(outcome.status == .retry)
            #expect(outcome.progress == 0b10)
            #expect(outcome.reason.contains("server0"))
        }
        #expect(alive.requests.count == 20)
        let probes = ((ContinuousClock.now - began) / .milliseconds(500)).rounded(.down)
        #expect(dead.requests.count >= 5 && Double(dead.requests.count) <= 5 + probes)
        let reason = try host.health("degraded") { $0 == .degraded }
        #expect(reason.contains("server0"))
        #expect(!reason.contains("server1"))
    }

    @Test("Abort ends a delivery that one endpoint has and another has not answered")
    func abort() throws {
        let gate = Gate()
        let silent = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        let servers = [try UpstreamServer(always: "200 OK"), silent]
        let host = TestHost()
        let writer = try writer(servers, host: host)
        let profile = TestProfile()
        let token = writer.begin(profile)
        _ = try silent.requests(1)
        writer.abort()
        #expect(try host.outcome(of: token).status == .aborted)
        writer.destroy()
        gate.open()
        #expect(host.said.current.finishes.count == 1)
    }
}

@Suite("Config errors of HTTPWriter")
struct HTTPWriterConfigTests {
    private func refusal(of config: String) throws -> [String] { try LoadedPlugin.release("HTTPWriter").refusal(of: config) }

    @Test(
        "A config error names the member",
        arguments: [
            ("{}", "endpoint: must hold at least one endpoint"), (#"{"endpoint":[]}"#, "endpoint: must hold at least one endpoint"),
            (#"{"endpoint":{}}"#, "endpoint: must be an array"), (#"{"endpoint":[7]}"#, "endpoint[0]: must be an object"),
            (#"{"endpoint":[{}]}"#, "endpoint[0].url: is required"), (#"{"endpoint":[{"url":7}]}"#, "endpoint[0].url: must be a string"),
            (#"{"endpoint":[{"url":"localhost:4040"}]}"#, "endpoint[0].url: must begin with http:// or https://"),
            (#"{"endpoint":[{"url":"http://a"},{"url":"ftp://b"}]}"#, "endpoint[1].url: must begin with http:// or https://"),
            (#"{"endpoint":[{"url":"http://"}]}"#, "endpoint[0].url: names no host"),
            (#"{"endpoint":[{"url":"http:///x"}]}"#, "endpoint[0].url: names no host"),
            (#"{"endpoint":[{"url":"http://a?b=c"}]}"#, "endpoint[0].url: must not hold a query"),
            (#"{"endpoint":[{"url":"http://a#b"}]}"#, "endpoint[0].url: must not hold a query or fragment"),
            (#"{"endpoint":[{"url":"http://a b"}]}"#, "endpoint[0].url: holds a space"),
            (#"{"endpoint":[{"url":"http://a:port"}]}"#, "endpoint[0].url: "),
            (#"{"endpoint":[{"url":"http://a:99999"}]}"#, "endpoint[0].url: "),
            (#"{"endpoint":[{"url":"http://a","urll":"b"}]}"#, "endpoint[0].urll: unknown; did you mean url?"),
            (#"{"endpoint":[{"url":"http://a","headers":{"a b":"c"}}]}"#, #"endpoint[0].headers["a b"]: is no header name"#),
            (#"{"endpoint":[{"url":"http://a","headers":{"X-A":"b\r\nX-C: d"}}]}"#, "endpoint[0].headers.X-A: holds a control character"),
            (#"{"endpoint":[{"url":"http://a","headers":{"Content-Length":"3"}}]}"#, "endpoint[0].headers.Content-Length: "),
            (#"{"endpoint":[{"url":"http://a","headers":{"Transfer-Encoding":"x"}}]}"#, "endpoint[0].headers.Transfer-Encoding: "),
            (#"{"endpoint":[{"url":"http://a","headers":{"X-A":7}}]}"#, "endpoint[0].headers.X-A: must be a string"),
            (#"{"endpoint":[{"url":"http://a","headers":[]}]}"#, "endpoint[0].headers: must be an object"),
            (#"{"endpoint":[{"url":"http://a","remote_timeout":5}]}"#, "endpoint[0].remote_timeout: must be a duration"),
            (#"{"endpoint":[{"url":"http://a","remote_timeout":"0s"}]}"#, "endpoint[0].remote_timeout: must be a duration"),
            (#"{"endpoint":[{"url":"http://a"}],"external_labels":{"a-b":"c"}}"#, "external_labels.a-b: is no label name"),
            (#"{"endpoint":[{"url":"http://a"}],"external_labels":{"__name__":"c"}}"#, "external_labels.__name__: is a reserved name"),
            (#"{"endpoint":[{"url":"http://a"}],"external_labels":{"a":"b,c"}}"#, "external_labels.a: "),
            (#"{"endpoint":[{"url":"http://a"}],"external_labels":{"a":"b}"}}"#, "external_labels.a: "),
            (#"{"endpoint":[{"url":"http://a"}],"external_labels":{"a":7}}"#, "external_labels.a: must be a string"),
            (#"{"endpoint":[{"url":"http://a"}],"external_label":{}}"#, "external_label: unknown; did you mean external_labels?"),
        ])
    func namesTheMember(config: String, problem: String) throws {
        #expect(try refusal(of: config).contains { $0.hasPrefix(problem) })
    }

    @Test(
        "One mistake causes one line",
        arguments: [
            "{}", #"{"endpoint":{}}"#, #"{"endpoint":[7]}"#, #"{"endpoint":[{"url":7}]}"#, #"{"endpoint":[{"url":"ftp://a b?c"}]}"#,
            #"{"endpoint":[{"url":"http://a","retries":3}]}"#, #"{"endpoint":[{"url":"http://a"}],"external_labels":{"a-b":"c,d"}}"#,
        ])
    func oneLine(config: String) throws {
        #expect(try refusal(of: config).count == 1)
    }

    @Test("Alloy's backoff members get a specific error", arguments: ["min_backoff_period", "max_backoff_period", "max_backoff_retries"])
    func backoff(member: String) throws {
        let lines = try refusal(of: #"{"endpoint":[{"url":"http://a","\#(member)":"5m"}]}"#)
        #expect(lines == ["endpoint[0].\(member): belongs to the receiver's retry block, not to an endpoint"])
    }

    @Test("At most 32 endpoints are accepted")
    func endpointCount() throws {
        let endpoints = (0..<33).map { #"{"url":"http://host\#($0)"}"# }
        let lines = try refusal(of: #"{"endpoint":[\#(endpoints.joined(separator: ","))]}"#)
        #expect(lines == ["endpoint: must hold at most 32 endpoints, holds 33"])
        _ = try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints.dropLast().joined(separator: ","))]}"#)
    }

    @Test(
        "A password or token in a URL is refused and not repeated in the error",
        arguments: [
            "http://user:hunter2@host", "https://hunter2@host/x", "ftp://user:hunter2@host", "http://host/?token=hunter2",
            "user:hunter2@host",
        ])
    func secrets(url: String) throws {
        let lines = try refusal(of: #"{"endpoint":[{"url":"\#(url)"}]}"#)
        #expect(lines.first?.hasPrefix("endpoint[0].url: ") == true)
        #expect(!lines.joined().contains("hunter2"))
    }

    @Test("A header's value is not repeated in the error")
    func headerSecrets() throws {
        let lines = try refusal(of: #"{"endpoint":[{"url":"http://a","headers":{"Authorization":"Bearer hunter2\n"}}]}"#)
        #expect(!lines.joined().contains("hunter2"))
    }

    @Test("All problems of a config are listed, one on each line")
    func allAtOnce() throws {
        let lines = try refusal(
            of: #"""
                {"endpoint":[{"url":"gopher://a","remote_timeout":"x"},{"headers":{"a b":"c"},"retries":3}],
                 "external_labels":{"a-b":"c"},"more":1}
                """#)
        let members = lines.map { String($0[..<($0.range(of: ": ")?.lowerBound ?? $0.endIndex)]) }
        #expect(
            Set(members) == [
                "endpoint[0].url", "endpoint[0].remote_timeout", "endpoint[1].url", #"endpoint[1].headers["a b"]"#, "endpoint[1].retries",
                "external_labels.a-b", "more",
            ])
        #expect(lines.count == 7)
    }
}
