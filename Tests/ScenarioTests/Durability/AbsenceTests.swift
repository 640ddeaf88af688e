import Foundation
import Testing

@testable import TestSupport

/// `GATEWAY_ABSENCE_PROFILES` sets how many profiles wait; 720,000 are an hour at 200 a second.
@Suite("Long outage of one destination", .serialized)
struct AbsenceTests {
    private static let profiles = Extent.of("GATEWAY_ABSENCE_PROFILES", usual: 20_000, sanitized: 1_000)
    /// How much memory may grow while the last three quarters are added, however many those are.
    private static let memory = 16 << 20
    private static let chunk = max(100, profiles / 200)

    /// Starts a gateway with one reachable receiver and one whose upstream is away.
    private static func start(_ scenario: Scenario, _ here: CountingUpstream, _ away: CountingUpstream) throws -> GatewayProcess {
        try GatewayProcess(
            scenario,
            receivers: [
                "away": away.entry(SpoolMembers.queue() + SpoolMembers.inFlight),
                "here": here.entry(SpoolMembers.queue() + SpoolMembers.inFlight),
            ], more: SpoolMembers.members("\"max_bytes\": \"16GiB\", \"sync\": \"always\""))
    }

    @Test("A backlog costs no memory and slows no other receiver, and all of it is delivered when the destination is back")
    func absence() throws {
        var seed = SeededRandom("AbsenceTests.absence")
        try Scenario.run { scenario in
            let (here, away) = (try CountingUpstream(scenario), try CountingUpstream(scenario))
            try away.refuse()
            let gateway = try Self.start(scenario, here, away)
            let load = Load(&seed, .small)
            try Self.send(Self.profiles / 4, load, gateway)
            let early = try gateway.metrics()
            let earlyTime = Self.deliveryTime(early, since: nil)
            try Self.send(Self.profiles / 2, load, gateway)
            let before = try gateway.metrics()
            try Self.send(Self.profiles / 4, load, gateway)
            let late = try gateway.metrics()

            #expect(load.ids(answered: 200).count == load.sent)
            #expect(late.queued("away") == load.sent && late.dropped("away") == 0)
            #expect(late.delivered("here") == load.sent && late.health("here") == 0)
            print(
                "AbsenceTests: \(load.sent) waiting, resident \(early.resident >> 10) KiB after a quarter, \(late.resident >> 10) KiB at the end"
            )
            // The first quarter is the measure, because a large backlog must not slow other deliveries.
            let lateTime = Self.deliveryTime(late, since: before)
            print("AbsenceTests: mean delivery beside it \(earlyTime) s in the first quarter, \(lateTime) s in the last")
            if !Project.isSanitized {
                #expect(late.resident - early.resident < Self.memory)
                #expect(lateTime < 20 * earlyTime)
            }

            try away.listen()
            try Self.send(Self.profiles / 10, load, gateway)
            #expect(load.ids(answered: 200).count == load.sent, "who comes while the backlog goes is not turned away")
            try gateway.drain("away", "here")
            try gateway.waitForMetrics("health") { $0.health("away") == 0 }
            #expect(try gateway.metrics().dropped("away") == 0)
            for counter in [here, away] { try Self.check(counter, load) }
            if !Project.isSanitized {
                try gateway.waitForMetrics("memory as before the backlog") { $0.resident - early.resident < Self.memory }
            }
        }
    }

    @Test("A gateway that starts on a large backlog recovers all of it, and serves the reachable receiver at once")
    func start() throws {
        var seed = SeededRandom("AbsenceTests.start")
        try Scenario.run { scenario in
            let (here, away) = (try CountingUpstream(scenario), try CountingUpstream(scenario))
            try away.refuse()
            let gateway = try Self.start(scenario, here, away)
            let load = Load(&seed, .small)
            try Self.send(Self.profiles, load, gateway)
            try scenario.waitForQueues("notes of what was delivered") { $0.first { $0.receiver == "here" }?.profiles == 0 }
            try gateway.kill()
            try here.startNextLife()

            let next = try gateway.again()
            let found = try next.metrics()
            #expect(found.recovered("away") == Self.profiles)
            #expect(found.recovered("here") <= SpoolMembers.openDeliveries)
            #expect(found.queued("away") == Self.profiles)
            try Self.send(100, load, next)
            let metrics = try next.metrics()
            print("AbsenceTests: \(Self.profiles) found, resident \(metrics.resident >> 10) KiB")
            #expect(metrics.queued("away") == Self.profiles + 100)
            // After an orderly stop, the next start finds the same.
            #expect(try next.stop() == 0)
            try here.startNextLife()

            let last = try next.again()
            #expect(try last.metrics().recovered("away") == Self.profiles + 100)
            #expect(try last.metrics().recovered("here") == 0, "an orderly end knows what is delivered")
            try away.listen()
            try last.drain("away", "here")
            try last.waitForMetrics("health") { $0.health("away") == 0 }
            try last.checkAccounts()
            try Self.check(away, load)
            #expect(try here.tally().distinct == load.sent)
        }
    }

    /// Sends in chunks, each after the previous one has arrived at the reachable receiver.
    private static func send(_ count: Int, _ load: Load, _ gateway: GatewayProcess) throws {
        let end = load.sent + count
        while load.sent < end {
            try load.send(min(chunk, end - load.sent), to: gateway)
            try gateway.drain("here")
        }
    }

    /// Checks that every profile arrived once.
    private static func check(_ counter: CountingUpstream, _ load: Load) throws {
        let tally = try counter.tally()
        #expect(tally.foreign == [])
        #expect(tally.counts.count == load.sent)
        #expect(tally.counts.count { $0 != 1 } == 0)
    }

    /// The mean time of a delivery to the reachable receiver, in seconds.
    private static func deliveryTime(_ metrics: Metrics, since before: Metrics?) -> Double {
        func sample(_ metrics: Metrics?, _ name: String) -> Double {
            metrics?.value("gateway_delivery_seconds_\(name){receiver=\"here\"}") ?? 0
        }
        let count = sample(metrics, "count") - sample(before, "count")
        return (sample(metrics, "sum") - sample(before, "sum")) / max(1, count)
    }
}
