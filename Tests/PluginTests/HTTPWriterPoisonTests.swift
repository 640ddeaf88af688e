import PluginABI
import Testing

@testable import TestSupport

@Suite("HTTPWriter with profiles that an endpoint always refuses", .bothClients)
struct HTTPWriterPoisonTests {
    private static let poison = Array("poison".utf8)

    private static func isPoison(_ request: UpstreamServer.Request) -> Bool {
        String(decoding: request.body, as: UTF8.self).contains("poison")
    }

    /// Starts a writer with an endpoint that gives this answer to poison, and a healthy one.
    private static func pair(
        _ healthy: UpstreamServer, _ answer: String
    ) throws -> (writer: LoadedInstance, choosy: UpstreamServer, host: TestHost) {
        let choosy = try UpstreamServer { _, request in isPoison(request) ? answer : UpstreamServer.response("200 OK") }
        let host = TestHost()
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(choosy.url)","name":"choosy"},{"url":"\#(healthy.url)"}]}"#, host)
        return (writer, choosy, host)
    }

    /// Repeats a delivery until it succeeds, as the gateway would.
    private static func insist(_ writer: LoadedInstance, _ profile: TestProfile) throws -> UInt32 {
        var (attempt, outcome) = (UInt32(1), try writer.deliver(profile))
        let limit = ContinuousClock.now + .seconds(Project.patience)
        while outcome.status == .retry, ContinuousClock.now < limit {
            attempt += 1
            outcome = try writer.deliver(profile, attempt: attempt, progress: outcome.progress)
        }
        #expect(outcome.status == .delivered)
        return attempt
    }

    /// The answers to poison.
    static let answers = [
        UpstreamServer.response("500 No", body: #"{"code":"unknown","message":"gzip reset: EOF"}"#), UpstreamServer.response("502 No"),
        UpstreamServer.response("503 No", headers: "Retry-After: 3600\r\n"),
        UpstreamServer.response("429 No", headers: "Retry-After: 60\r\n"),
        UpstreamServer.response("200 OK", headers: "Content-Type: text/html\r\n", body: "no"),
    ]

    @Test("Refused profiles do not delay others, however many there are", arguments: [1, 4, 20], answers)
    func others(count: Int, answer: String) throws {
        let healthy = try UpstreamServer(always: "200 OK")
        let (writer, choosy, host) = try Self.pair(healthy, answer)
        defer { withExtendedLifetime(healthy) {} }
        let profiles = (1...count).map { TestProfile(sequence: UInt64($0), samples: [("", Self.poison)]) }
        // All come once at first; so many failures in a row look like an outage, so the endpoint may be probed once.
        for profile in profiles { #expect(try writer.deliver(profile).progress == 0b10) }
        _ = try Self.insist(writer, TestProfile(sequence: 1000))
        for round in 2...6 {
            for (index, profile) in profiles.enumerated() {
                #expect(try !writer.deliver(profile, attempt: UInt32(round), progress: 0b10).reason.contains("is down"))
                // A destination that has taken something within two seconds is not down.
                if index % 4 == 3 { _ = try Self.insist(writer, TestProfile(sequence: UInt64(2000 + index))) }
            }
            #expect(try writer.deliver(TestProfile(sequence: UInt64(1000 + round))).status == .delivered, "at the first attempt")
        }
        #expect(choosy.requests.count(where: Self.isPoison) >= 5 * count)
        if count < 5 { #expect(!host.said.current.healths.contains { $0.reason.contains("is down") || $0.health == .failed }) }
    }

    @Test("A profile whose server closes the connection delays no other")
    func hangsUp() throws {
        let healthy = try UpstreamServer(always: "200 OK")
        let choosy = try UpstreamServer { _, request in Self.isPoison(request) ? nil : UpstreamServer.response("200 OK") }
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(choosy.url)"},{"url":"\#(healthy.url)"}]}"#)
        let bad = TestProfile(sequence: 1, samples: [("", Self.poison)])
        for attempt in UInt32(1)...12 {
            #expect(try !writer.deliver(bad, attempt: attempt, progress: attempt == 1 ? 0 : 0b10).reason.contains("is down"))
        }
        #expect(try writer.deliver(TestProfile(sequence: 2)).status == .delivered)
    }

    @Test("An endpoint that refuses everything is probed with one profile at a time, at most every half second")
    func away() throws {
        let healthy = try UpstreamServer(always: "200 OK")
        let (writer, choosy, _) = try Self.pair(healthy, UpstreamServer.response("503 No"))
        defer { withExtendedLifetime(healthy) {} }
        let began = ContinuousClock.now
        for sequence in UInt64(1)...200 {
            let profile = TestProfile(sequence: sequence, samples: [("", Self.poison)])
            #expect(try writer.deliver(profile).progress == 0b10, "its sibling has it at once")
        }
        let probes = (ContinuousClock.now - began) / .milliseconds(500)
        #expect(choosy.requests.count >= 5 && Double(choosy.requests.count) <= 5 + probes.rounded(.up))
    }

    @Test("A Retry-After of an hour delays no other profile")
    func retryAfter() throws {
        let asleep = try UpstreamServer { index, _ in
            index < 5 ? UpstreamServer.response("503 No", headers: "Retry-After: 3600\r\n") : UpstreamServer.response("200 OK")
        }
        let healthy = try UpstreamServer(always: "200 OK")
        let writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(asleep.url)"},{"url":"\#(healthy.url)"}]}"#)
        for sequence in UInt64(1)...5 { #expect(try writer.deliver(TestProfile(sequence: sequence)).retryAfter == .seconds(3600)) }
        let down = try writer.deliver(TestProfile(sequence: 6))
        if down.status == .retry { #expect(down.retryAfter <= .milliseconds(500)) }
        _ = try Self.insist(writer, TestProfile(sequence: 7))
        #expect(healthy.requests.count >= 6)
    }

    @Test("Profiles refused before are used as probes only after growing pauses, and still detect the recovery")
    func refusedProbes() throws {
        let healthy = try UpstreamServer(always: "200 OK")
        let profiles = (1...5).map { TestProfile(sequence: UInt64($0)) }
        let limit = ContinuousClock.now + .seconds(Project.patience)
        var (server, writer, began): (UpstreamServer, LoadedInstance, ContinuousClock.Instant)
        // On a busy machine the first probe may be due before the second attempt, and then all is repeated.
        repeat {
            server = try UpstreamServer { index, _ in UpstreamServer.response(index < 6 ? "503 No" : "200 OK") }
            writer = try HTTPWriterTests.writer(#"{"endpoint":[{"url":"\#(server.url)"},{"url":"\#(healthy.url)"}]}"#)
            for profile in profiles.dropLast() { _ = try writer.deliver(profile) }
            let last = ContinuousClock.now
            _ = try writer.deliver(profiles[4])
            let told = try writer.deliver(profiles[0], attempt: 2, progress: 0b10)
            began = ContinuousClock.now
            if began - last >= .seconds(1) { continue }
            #expect(told.status == .retry && told.retryAfter <= .seconds(1) && told.reason.contains("is down"))
            break
        } while ContinuousClock.now < limit
        _ = try Self.insist(writer, profiles[1])
        // One probe fails a second after the fifth failure, so the next one comes a second after that.
        #expect(server.requests.count == 7 && ContinuousClock.now - began >= .milliseconds(1000))
    }
}
