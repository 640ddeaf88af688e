import Foundation
import Glibc
import Testing

@testable import TestSupport

/// `GATEWAY_CORRUPTION_ROUNDS` says how often a spool is damaged, `GATEWAY_SEED` repeats a run.
@Suite("A damaged spool loses what is damaged and nothing else", .serialized)
struct CorruptionTests {
    private static let rounds = Extent.of("GATEWAY_CORRUPTION_ROUNDS", usual: 40, sanitized: 8)
    private static let kills = [SIGKILL, SIGTERM]

    @Test(
        "It always starts, sends nothing but what was sent, and counts what it had to give up", arguments: kills)
    func damage(signal: Int32) throws {
        var seed = SeededRandom("CorruptionTests.damage")
        try Scenario.run { scenario in
            let spool = try SpoolCopy(scenario, &seed, endedBy: signal)
            #expect(try scenario.gateway("queue", "verify").status == 0)
            for _ in 0..<(Self.rounds / Self.kills.count) {
                try spool.restore()
                var damages = try (0..<Int.random(in: 1...3, using: &seed)).map { _ in
                    try Damage(Damage.Kind.allCases.randomElement(using: &seed) ?? .flip, in: spool.folder, &seed)
                }
                // Sometimes a process has seen the damage, and there is more before the next one looks.
                if seed.chance(1, of: 4) {
                    try spool.startAndKill()
                    damages.append(try Damage(.flip, in: spool.folder, &seed))
                }
                try spool.check(damages)
            }
        }
    }

    @Test("A damaged index or list of what is settled loses nothing", arguments: [".index", ".settled"])
    func besides(suffix: String) throws {
        var seed = SeededRandom("CorruptionTests.besides")
        try Scenario.run { scenario in
            let spool = try SpoolCopy(scenario, &seed, endedBy: SIGKILL, profiles: 100)
            for kind in Damage.Kind.allCases {
                try spool.restore()
                try spool.check([try Damage(kind, in: spool.folder, &seed, only: suffix)])
            }
        }
    }

    @Test(
        "Changed bytes in the records are found by verify and by the start, which keeps them aside", arguments: [Damage.Kind.flip, .zero])
    func found(kind: Damage.Kind) throws {
        var seed = SeededRandom("CorruptionTests.found")
        try Scenario.run { scenario in
            let spool = try SpoolCopy(scenario, &seed, endedBy: SIGKILL, profiles: 100)
            var total = 0
            for _ in 0..<5 {
                try spool.restore()
                let damage = try Damage(kind, in: spool.folder, &seed, only: ".records")
                if damage.files.isEmpty { continue }
                let verified = try scenario.gateway("queue", "verify")
                #expect(verified.status == 1, "\(damage)\n\(verified.output)")
                #expect(try scenario.gateway("queue", "verify", "--json").status == 1)
                // None where only what was delivered before is damaged: nobody reads it again.
                let lost = try spool.check([damage])
                #expect(lost == 0 || !scenario.files(under: "data/quarantine").isEmpty, "\(damage): \(lost) lost")
                total += lost
            }
            #expect(total > 0)
        }
    }

    @Test("Two processes do not share a spool: the second one says so and ends, and the first goes on")
    func locked() throws {
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            var seed = SeededRandom("CorruptionTests.locked")
            let load = Load(&seed, .small)
            let gateway = try GatewayProcess(scenario, receivers: ["up": counter.entry()], more: SpoolMembers.members())
            let second = try scenario.start([try Project.builtGateway(), "run", "--config", scenario.path("gateway.json")])
            #expect(try second.waitForExit() == 1)
            #expect(second.errors.lines.contains { $0.contains("data") }, "\(second.errors.lines)")
            try load.send(100, to: gateway)
            try gateway.drain("up")
            #expect(try counter.tally().distinct == 100)
        }
    }
}

/// A spool with a backlog, as a process has left it, that can be had again after each damage.
private final class SpoolCopy {
    let folder: String
    private let scenario: Scenario
    private let counter: CountingUpstream
    private let gateway: GatewayProcess
    /// All that got 200.
    private let stored: Set<Int>
    /// What had been delivered when the copy was made.
    private let delivered: Set<Int>
    /// By segment, the profiles in it: bodies are in the records as they came.
    private var segments: [String: Set<Int>] = [:]

    init(_ scenario: Scenario, _ seed: inout SeededRandom, endedBy signal: Int32, profiles: Int = 400) throws {
        (self.scenario, folder) = (scenario, scenario.path("data/spool"))
        counter = try CountingUpstream(scenario)
        let load = Load(&seed, Load.Mix(sizes: [200, 2000, 10_000, 100_000]))
        gateway = try GatewayProcess(
            scenario, receivers: ["up": counter.entry(SpoolMembers.queue() + SpoolMembers.inFlight)],
            more: SpoolMembers.members("\"segment_bytes\": \"64KiB\""))
        // Some are settled, so that there is something to say of that, too.
        try load.send(profiles / 4, to: gateway)
        try gateway.drain("up")
        delivered = try counter.tally().ids
        try counter.refuse()
        try load.send(profiles, to: gateway)
        gateway.process.signal(signal)
        try gateway.process.waitForExit()
        stored = Set(load.ids(answered: 200))
        try scenario.run("cp", "-a", scenario.path("data"), scenario.path("master"))
        try readSegments()
        let backlog = stored.subtracting(delivered)
        #expect(segments.count >= 5)
        #expect(backlog.subtracting(segments.values.reduce(into: []) { $0.formUnion($1) }).isEmpty)
    }

    func restore() throws {
        try scenario.run("rm", "-rf", scenario.path("data"))
        try scenario.run("cp", "-a", scenario.path("master"), scenario.path("data"))
        try counter.forget()
    }

    /// A process that looks at it while there is nobody to send to.
    func startAndKill() throws {
        try counter.refuse()
        try gateway.again().kill()
        try readSegments()
    }

    private func readSegments() throws {
        for file in scenario.files(under: "data/spool") where file.hasSuffix(".records") {
            let ids = Frame.ids(in: [UInt8](try scenario.bytes(of: "data/spool/\(file)")))
            segments[String(file.dropLast(".records".count)), default: []].formUnion(ids)
        }
    }

    /// Starts on what is left of it, with an upstream that takes everything.
    ///
    /// What does not arrive was in a segment whose records are damaged. It is counted as damaged, but for segments whose
    /// index is damaged too: nobody can know how many records these had, so any of theirs may be missing uncounted.
    ///
    /// - Returns: how many are counted as damaged.
    @discardableResult
    func check(_ damages: [Damage]) throws -> Int {
        try counter.listen()
        let life = try gateway.again()
        try life.drain("up")
        let metrics = try life.metrics()
        try life.checkAccounts()
        let tally = try counter.tally()
        let what = Comment("\(damages)")
        #expect(tally.foreign == [], what)
        #expect(tally.ids.isSubset(of: stored), what)
        #expect(tally.twice == 0, what)

        let missing = stored.subtracting(delivered).subtracting(tally.ids)
        let records = damages.reduce(into: Set<String>()) { $0.formUnion($1.segments(".records")) }
        let indices = damages.reduce(into: Set<String>()) { $0.formUnion($1.segments(".index")) }
        // A swap leaves records beside an index that is not theirs.
        let swapped = damages.filter { $0.kind == .swap }.reduce(into: Set<String>()) { $0.formUnion($1.segments(".records")) }
        #expect(missing.subtracting(profiles(in: records)).isEmpty, "only what was in damaged records is missing: \(damages)")
        let unknown = missing.intersection(profiles(in: records.intersection(indices.union(swapped))))
        let damaged = metrics.dropped("up", "damaged")
        #expect(missing.count - unknown.count <= damaged, what)
        #expect(metrics.dropped("up") == damaged, what)
        if damaged > 0 { _ = try life.log.wait(for: "msg=\"spool damage\"") }
        // Else what is settled is known, but for what was under way when the process was killed.
        if !damages.contains(where: { $0.hits(".settled") || $0.kind == .swap }) {
            #expect(tally.ids.intersection(delivered).count <= SpoolMembers.openDeliveries, what)
        }
        #expect(try life.stop() == 0, what)
        try counter.startNextLife()
        return damaged
    }

    private func profiles(in names: Set<String>) -> Set<Int> {
        names.reduce(into: []) { $0.formUnion(segments[$1] ?? []) }
    }
}
