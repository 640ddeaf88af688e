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

    @Test("The receiver is as unhealthy as its worst loop, and ok once all loops are")
    func health() throws {
        let server = try UpstreamServer { index, _ in
            index < 40 ? UpstreamServer.response("403 No", body: "who are you") : UpstreamServer.response("200 OK")
        }
        let host = TestHost()
        let writer = try writer([server], loops: 4, host: host)
        for profile in profiles { #expect(try writer.deliver(profile).status == .rejected) }
        #expect(try writer.deliver(profiles[0]).status == .delivered)
        #expect(host.said.current.healths.map(\.health) == [.failed], "the other loops have not seen a success yet")
        for profile in profiles { #expect(try writer.deliver(profile).status == .delivered) }
        _ = try host.health("ok") { $0 == .ok }
        // What the loops report is complete after destroy.
        writer.destroy()
        let healths = host.said.current.healths
        #expect(healths.map(\.health) == [.failed, .ok])
        #expect(healths[0].reason.contains("who are you"))
    }

    @Test("Each loop gets an equal part of the descriptors, and at least one connection", arguments: [(0, 1), (7, 3)])
    func descriptors(beyond: UInt32, most: Int) throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        // Each loop needs 8 besides its connections.
        let writer = try writer([server], loops: 2, host: TestHost(descriptorShare: 2 * 8 + beyond))
        let open = profiles.map { writer.begin($0) }
        _ = try server.requests(2 * most)
        gate.open()
        for token in open { #expect(try writer.host.outcome(of: token).status == .delivered) }
        #expect(Set(server.requests.map(\.connection)).count == 2 * most)
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
