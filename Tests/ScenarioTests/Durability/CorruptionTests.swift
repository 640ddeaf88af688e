import Foundation
import Glibc
import Testing

@testable import TestSupport

/// `GATEWAY_CORRUPTION_ROUNDS` sets how often a spool is damaged, and `GATEWAY_SEED` repeats a run.
@Suite("Damaged spools", .serialized)
struct CorruptionTests {
    private static let rounds = Extent.of("GATEWAY_CORRUPTION_ROUNDS", usual: 40, sanitized: 8)
    private static let kills = [SIGKILL, SIGTERM]

    @Test(
        "A gateway starts on a damaged spool, sends only what was sent to it, and counts what it lost", arguments: kills)
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
                // Sometimes a process sees the damage, and more is added before the next start.
                if seed.chance(1, of: 4) {
                    try spool.startAndKill()
                    damages.append(try Damage(.flip, in: spool.folder, &seed))
                }
                try spool.check(damages)
            }
        }
    }

    @Test("A damaged index or list of settled entries loses no profile", arguments: [".index", ".settled"])
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
        "verify and the next start find changed bytes in records, which are kept in quarantine", arguments: [Damage.Kind.flip, .zero])
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
                // Nothing is lost if only delivered records are damaged, because nobody reads them again.
                let lost = try spool.check([damage])
                #expect(lost == 0 || !scenario.files(under: "data/quarantine").isEmpty, "\(damage): \(lost) lost")
                total += lost
            }
            #expect(total > 0)
        }
    }

    @Test("A second process on the same spool reports the lock and ends, and the first one continues")
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

/// A spool with a backlog, as a process left it, which can be restored after each damage.
private final class SpoolCopy {
    let folder: String
    private let scenario: Scenario
    private let counter: CountingUpstream
    private let gateway: GatewayProcess
    /// The profiles that got 200.
    private let stored: Set<Int>
    /// The profiles that were delivered before the copy was made.
    private let delivered: Set<Int>
    /// The profiles in each segment, found by their bodies, which records hold unchanged.
    private var segments: [String: Set<Int>] = [:]

    init(_ scenario: Scenario, _ seed: inout SeededRandom, endedBy signal: Int32, profiles: Int = 400) throws {
        (self.scenario, folder) = (scenario, scenario.path("data/spool"))
        counter = try CountingUpstream(scenario)
        let load = Load(&seed, Load.Mix(sizes: [200, 2000, 10_000, 100_000]))
        gateway = try GatewayProcess(
            scenario, receivers: ["up": counter.entry(SpoolMembers.queue() + SpoolMembers.inFlight)],
            more: SpoolMembers.members("\"segment_bytes\": \"64KiB\""))
        // Some are delivered, so that there are settled entries too.
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

    /// Restores the spool, and sets the counts of the upstream to 0.
    func restore() throws {
        try scenario.run("rm", "-rf", scenario.path("data"))
        try scenario.run("cp", "-a", scenario.path("master"), scenario.path("data"))
        try counter.forget()
    }

    /// Starts and kills a gateway on the damaged spool while the upstream is away.
    func startAndKill() throws {
        try counter.refuse()
        try gateway.again().kill()
        try readSegments()
    }

    /// Adds the profiles in the current record files to `segments`.
    private func readSegments() throws {
        for file in scenario.files(under: "data/spool") where file.hasSuffix(".records") {
            let ids = Frame.ids(in: [UInt8](try scenario.bytes(of: "data/spool/\(file)")))
            segments[String(file.dropLast(".records".count)), default: []].formUnion(ids)
        }
    }

    /// Starts on the damaged spool, with an upstream that accepts everything.
    ///
    /// A missing profile was in a segment with damaged records. It is counted as damaged, unless the segment's index is
    /// damaged too; then nobody knows how many records it had, so any of them may be missing without being counted.
    ///
    /// - Returns: how many profiles are counted as damaged.
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
        // A swap leaves records next to an index of another segment.
        let swapped = damages.filter { $0.kind == .swap }.reduce(into: Set<String>()) { $0.formUnion($1.segments(".records")) }
        #expect(missing.subtracting(profiles(in: records)).isEmpty, "only what was in damaged records is missing: \(damages)")
        let unknown = missing.intersection(profiles(in: records.intersection(indices.union(swapped))))
        let damaged = metrics.dropped("up", "damaged")
        #expect(missing.count - unknown.count <= damaged, what)
        #expect(metrics.dropped("up") == damaged, what)
        if damaged > 0 { _ = try life.log.wait(for: "msg=\"spool damage\"") }
        // Without such damage, only deliveries that were open at the kill may happen twice.
        if !damages.contains(where: { $0.hits(".settled") || $0.kind == .swap }) {
            #expect(tally.ids.intersection(delivered).count <= SpoolMembers.openDeliveries, what)
        }
        #expect(try life.stop() == 0, what)
        try counter.startNextLife()
        return damaged
    }

    /// The profiles in the segments with these names.
    private func profiles(in names: Set<String>) -> Set<Int> {
        names.reduce(into: []) { $0.formUnion(segments[$1] ?? []) }
    }
}
