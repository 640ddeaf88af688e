import PluginABI
import Testing

@testable import TestSupport

@Suite("HTTPWriter with several loops", .bothClients)
struct HTTPWriterLoopTests {
    private func writer(_ servers: [UpstreamServer], loops: Int, host: TestHost = TestHost()) throws -> LoadedInstance {
        let endpoints = servers.enumerated().map { #"{"url":"\#($1.url)","name":"server\#($0)"}"# }
        return try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints.joined(separator: ","))],"loops":\#(loops)}"#, host)
    }

    private let profiles = (0..<40).map { TestProfile(sequence: UInt64($0)) }

    @Test("Each loop has a connection of its own, and every profile is sent once", arguments: [1, 2, 5])
    func connections(loops: Int) throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try writer([server], loops: loops)
        for profile in profiles { #expect(try writer.deliver(profile).status == .delivered) }
        #expect(server.requests.count == profiles.count)
        #expect(Set(server.requests.map(\.connection)).count == loops)
    }

    @Test("Profiles with every second or every fifth sequence are spread over all loops too", arguments: [2, 5])
    func spread(step: UInt64) throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try writer([server], loops: Int(step))
        for number in UInt64(0)..<40 { #expect(try writer.deliver(TestProfile(sequence: number * step)).status == .delivered) }
        #expect(Set(server.requests.map(\.connection)).count == Int(step))
    }

    @Test("The reason of a rejection is still known in the next attempt")
    func rejection() throws {
        let strict = try UpstreamServer { _, _ in UpstreamServer.response("400 No", body: "too many labels") }
        let shaky = try UpstreamServer { index, _ in UpstreamServer.response(index < 4 ? "503 No" : "200 OK") }
        let writer = try writer([strict, shaky], loops: 3)
        for profile in profiles.prefix(4) {
            let first = try writer.deliver(profile)
            #expect(first.status == .retry)
        }
        for profile in profiles.prefix(4) {
            let second = try writer.deliver(profile, attempt: 2, progress: 1 << 32 | 1)
            #expect(second.status == .rejected && second.reason.contains("too many labels"), "\(second.reason)")
        }
    }

    @Test("A flush ends after the deliveries of all loops")
    func flush() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        let host = TestHost()
        let writer = try writer([server], loops: 4, host: host)
        // Before the first delivery there are no loops.
        let early = writer.flush()
        #expect(try host.outcome(of: early).status == .delivered)
        let open = profiles.prefix(2).map { writer.begin($0) }
        _ = try server.requests(2)
        let flush = writer.flush()
        #expect(!host.said.current.finishes.contains { $0.token == flush })
        gate.open()
        #expect(try host.outcome(of: flush).status == .delivered)
        #expect(Set(host.said.current.finishes.map(\.token)) == Set([early, flush] + open))
        #expect(host.said.current.finishes.last?.token == flush)
    }

    @Test("Abort ends the deliveries of all loops")
    func abort() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return nil
        }
        let host = TestHost()
        let writer = try writer([server], loops: 4, host: host)
        let open = profiles.prefix(8).map { writer.begin($0) }
        _ = try server.requests(8)
        writer.abort()
        for token in open { #expect(try host.outcome(of: token).status == .aborted) }
        writer.destroy()
        gate.open()
        #expect(host.said.current.finishes.count == 8)
    }

    @Test("Nothing is begun after an abort", arguments: [1, 3])
    func afterAbort(loops: Int) throws {
        let server = try UpstreamServer(always: "200 OK")
        let unused = try writer([server], loops: loops)
        unused.abort()
        for profile in profiles { #expect(try unused.deliver(profile).status == .aborted) }
        #expect(server.requests.isEmpty)
        let used = try writer([server], loops: loops)
        for profile in profiles { #expect(try used.deliver(profile).status == .delivered) }
        used.abort()
        for profile in profiles { #expect(try used.deliver(profile).status == .aborted) }
        #expect(server.requests.count == profiles.count)
    }

    @Test("Trouble that one loop has seen ends with a success of any loop, and is reported once")
    func health() throws {
        let server = try UpstreamServer { index, _ in
            index < 9
                ? UpstreamServer.response("403 No", body: "who are you")
                : UpstreamServer.response(index < 12 ? "503 No" : index < 14 ? "400 No" : "200 OK")
        }
        let host = TestHost()
        let writer = try writer([server], loops: 3, host: host)
        let statuses = try profiles.prefix(15).map { try writer.deliver($0).status }
        #expect(statuses == Array(repeating: .rejected, count: 9) + [.retry, .retry, .retry, .rejected, .rejected, .delivered])
        // All reports have come when destroy returns.
        writer.destroy()
        let healths = host.said.current.healths
        #expect(healths.map(\.health) == [.failed, .ok])
        #expect(healths[0].reason.contains("who are you"))
    }

    @Test("An endpoint that is down for all loops is healthy after a success of one, and not before")
    func recovery() throws {
        let server = try UpstreamServer { index, _ in UpstreamServer.response(index < 40 ? "503 No" : "200 OK", body: "maintenance") }
        let host = TestHost()
        let writer = try writer([server], loops: 3, host: host)
        for profile in profiles { #expect(try writer.deliver(profile).status == .retry) }
        #expect(host.said.current.healths.map(\.health) == [.failed])
        #expect(host.said.current.healths[0].reason.contains("maintenance"))
        #expect(try writer.deliver(TestProfile(sequence: 40)).status == .delivered)
        #expect(host.said.current.healths.map(\.health) == [.failed, .ok])
    }

    @Test(
        "Each loop has an equal part of the descriptors, and there are only as many loops as they suffice for",
        arguments: [(31, 1, 23), (32, 2, 16), (35, 2, 18), (48, 3, 24), (999, 3, 40)])
    func descriptors(share: UInt32, loops: Int, connections: Int) throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        // Each loop needs 8 besides its connections.
        let host = TestHost(descriptorShare: share)
        let writer = try writer([server], loops: 3, host: host)
        let open = profiles.map { writer.begin($0) }
        // The hash does not give every loop as many profiles as it has connections.
        _ = try server.requests(min(connections, profiles.count) * 3 / 4)
        gate.open()
        for token in open { #expect(try writer.host.outcome(of: token).status == .delivered) }
        #expect(Set(server.requests.map(\.connection)).count <= connections)
        let warnings = host.said.current.logs.filter { $0.contains("not enough file descriptors for 3, so there are \(loops)") }
        #expect(warnings.count == (loops < 3 ? 1 : 0))
    }

    @Test("A host with only a part of the calls for a loop is used as one without", arguments: [TestHost.Loop.old, .withoutTimers])
    func partOfLoop(loop: TestHost.Loop) throws {
        let server = try UpstreamServer(always: "200 OK")
        let host = TestHost(loop: loop)
        #expect(try writer([server], loops: 1, host: host).deliver(profiles[0]).status == .delivered)
        #expect(host.said.current.loopsRefused == 0)
    }

    @Test("Without descriptors for a loop a delivery is retried, and each attempt asks for one again")
    func noLoop() throws {
        let server = try UpstreamServer(always: "200 OK")
        let host = TestHost(loop: .exhausted)
        let writer = try writer([server], loops: 1, host: host)
        for attempt in UInt32(1)...3 {
            let outcome = try writer.deliver(profiles[0], attempt: attempt)
            #expect(outcome.status == .retry && outcome.reason.contains("Too many open files"), "\(outcome.reason)")
            #expect(host.said.current.loopsRefused == Int(attempt))
        }
        #expect(server.requests.isEmpty)
    }

    @Test("1 to 16 loops are accepted")
    func limits() throws {
        let plugin = try HTTPWriterTests.plugin.get()
        func config(_ loops: Int) -> String { #"{"endpoint":[{"url":"http://a"}],"loops":\#(loops)}"# }
        for loops in [1, 16] { _ = try plugin.create(config(loops), TestHost()) }
        for loops in [0, 17] {
            #expect(try plugin.refusal(of: config(loops)) == ["loops: must be a whole number, 1 to 16, is \(loops)"])
        }
    }
}
