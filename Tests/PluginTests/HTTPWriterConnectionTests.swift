import Foundation
import PluginABI
import Testing

@testable import TestSupport

@Suite("Age and number of HTTPWriter connections", .bothClients)
struct HTTPWriterConnectionTests {
    private static func writer(_ servers: [UpstreamServer], _ members: String = "", host: TestHost = TestHost()) throws -> LoadedInstance {
        let endpoints = servers.map { #"{"url":"\#($0.url)"\#(members)}"# }.joined(separator: ",")
        return try HTTPWriterTests.writer(#"{"endpoint":[\#(endpoints)]}"#, host)
    }

    /// Delivers one profile after another until the condition holds.
    private static func deliver(_ writer: LoadedInstance, until isEnough: () -> Bool) throws {
        let limit = ContinuousClock.now + .seconds(Project.patience)
        while !isEnough() {
            guard ContinuousClock.now < limit else { throw Obstacle("the connections did not do what was expected") }
            #expect(try writer.deliver(TestProfile()).status == .delivered)
        }
    }

    // MARK: Age

    @Test("Busy connections are replaced after max_connection_age, and their open transfers complete")
    func age() throws {
        let gate = Gate()
        let server = try UpstreamServer { index, _ in
            if index == 0 { gate.wait() }
            return UpstreamServer.response("200 OK")
        }
        let writer = try Self.writer([server], #","max_connection_age":"200ms""#)
        let held = TestProfile(sequence: 1)
        let token = writer.begin(held)
        _ = try server.requests(1)
        try Self.deliver(writer) { server.requests.last?.connection ?? 0 >= 3 }
        gate.open()
        #expect(try withExtendedLifetime(held) { try writer.host.outcome(of: token).status } == .delivered)
        let used = server.requests.dropFirst().map(\.connection)
        #expect(used == used.sorted(), "nothing goes back to an old one")
    }

    @Test("Idle connections close after max_connection_age, and older ones after their last transfer")
    func closed() throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer([server], #","max_connection_age":"100ms""#)
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        try server.waitForConnections(0)
        #expect(try writer.deliver(TestProfile()).status == .delivered)
        #expect(server.requests.map(\.connection) == [0, 1])
    }

    @Test("Without an age, connections stay open", arguments: [#","max_connection_age":"0s""#, #","max_connection_age":"1h""#, ""])
    func noAge(members: String) throws {
        let server = try UpstreamServer(always: "200 OK")
        let writer = try Self.writer([server], members)
        for _ in 0..<200 { #expect(try writer.deliver(TestProfile()).status == .delivered) }
        #expect(Set(server.requests.map(\.connection)) == [0])
    }

    @Test("An invalid max_connection_age is refused", arguments: ["-1s", "5", "soon"])
    func problem(value: String) throws {
        let lines = try HTTPWriterTests.plugin.get().refusal(
            of: #"{"endpoint":[{"url":"http://127.0.0.1:1","max_connection_age":"\#(value)"}]}"#)
        #expect(lines.count == 1 && lines[0].hasPrefix("endpoint[0].max_connection_age: must be a duration"), "\(lines)")
    }

    @Test("Connections to a token server are replaced too")
    func tokens() throws {
        // This token expires at once, so each request needs a new one.
        let tokens = try UpstreamServer(always: "200 OK", body: #"{"access_token":"t","expires_in":1}"#)
        let server = try UpstreamServer { index, _ in UpstreamServer.response(index % 2 == 0 ? "200 OK" : "401 Gone") }
        let oauth2 = #","max_connection_age":"100ms","oauth2":{"client_id":"a","client_secret":"b","token_url":"\#(tokens.url)"}"#
        let writer = try Self.writer([server], oauth2)
        let limit = ContinuousClock.now + .seconds(Project.patience)
        while tokens.requests.last?.connection ?? 0 < 2, ContinuousClock.now < limit { _ = try writer.deliver(TestProfile()) }
        #expect(tokens.requests.last?.connection ?? 0 >= 2)
    }

    // MARK: Number

    /// The descriptors that an instance with this many endpoints needs besides its connections.
    private static func overhead(endpoints: Int) -> UInt32 { 6 + 2 * UInt32(endpoints) }

    /// Starts many deliveries at once, and answers them once this many requests have arrived.
    private static func burst(_ writer: LoadedInstance, _ server: UpstreamServer, _ gate: Gate, atOnce: Int) throws {
        let before = server.requests.count
        let profiles = (0..<40).map { TestProfile(sequence: UInt64($0)) }
        let tokens = profiles.map { writer.begin($0) }
        _ = try server.requests(before + atOnce)
        gate.open()
        let statuses = try withExtendedLifetime(profiles) { try tokens.map { try writer.host.outcome(of: $0).status } }
        #expect(statuses.allSatisfy { $0 == .delivered })
    }

    @Test(
        "There are no more connections than the share of descriptors allows, but at least one",
        arguments: [(0, 1), (1, 1), (2, 2), (5, 5)])
    func share(beyond: UInt32, most: Int) throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        let writer = try Self.writer([server], host: TestHost(descriptorShare: Self.overhead(endpoints: 1) + beyond))
        try Self.burst(writer, server, gate, atOnce: most)
        #expect(Set(server.requests.map(\.connection)).count == most)
    }

    @Test("Endpoints get equal parts of the share")
    func parts() throws {
        let gate = Gate()
        let servers = try (0..<2).map { _ in
            try UpstreamServer { _, _ in
                gate.wait()
                return UpstreamServer.response("200 OK")
            }
        }
        let writer = try Self.writer(servers, host: TestHost(descriptorShare: Self.overhead(endpoints: 2) + 7))
        try Self.burst(writer, servers[0], gate, atOnce: 3)
        for server in servers { #expect(Set(server.requests.map(\.connection)).count == 3) }
    }

    @Test("With a share for one connection, three endpoints take turns by closing idle connections")
    func turns() throws {
        let servers = try (0..<3).map { _ in try UpstreamServer(always: "200 OK") }
        let writer = try Self.writer(servers, host: TestHost(descriptorShare: 1))
        for sequence in UInt64(1)...3 {
            var (attempt, outcome) = (UInt32(1), try writer.deliver(TestProfile(sequence: sequence)))
            while outcome.status == .retry, attempt < 20 {
                #expect(outcome.reason.contains("no descriptor is free"))
                attempt += 1
                outcome = try writer.deliver(TestProfile(sequence: sequence), attempt: attempt, progress: outcome.progress)
            }
            #expect(outcome.status == .delivered)
        }
        #expect(servers.map(\.requests.count) == [3, 3, 3])
        #expect(!writer.host.said.current.healths.contains { $0.health != .ok }, "it is no endpoint's fault")
    }

    @Test("A smaller share also closes idle connections")
    func shrinks() throws {
        let gate = Gate()
        let server = try UpstreamServer { _, _ in
            gate.wait()
            return UpstreamServer.response("200 OK")
        }
        let host = TestHost(descriptorShare: Self.overhead(endpoints: 1) + 10)
        let writer = try Self.writer([server], host: host)
        try Self.burst(writer, server, gate, atOnce: 10)
        #expect(server.connections == 10)
        host.said.update { $0.descriptorShare = Self.overhead(endpoints: 1) + 2 }
        try server.waitForConnections(2)
        let before = server.requests.count
        try Self.burst(writer, server, gate, atOnce: 0)
        #expect(Set(server.requests.dropFirst(before).map(\.connection)).count <= 2)
        // The server may see the end of an old connection later than the first requests of a new one.
        try server.waitForConnections(2)
    }
}
