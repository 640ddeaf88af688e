import Foundation
import Glibc
import Testing

@testable import TestSupport

/// `GATEWAY_CRASH_ROUNDS` sets how many processes are killed, and `GATEWAY_SEED` repeats a run.
@Suite("Repeated crashes under load", .serialized)
struct CrashTests {
    private static let rounds = Extent.of("GATEWAY_CRASH_ROUNDS", usual: 25, sanitized: 6)

    @Test("After many kills, every profile with a 200 arrives everywhere, and only deliveries open at a kill are repeated")
    func kills() throws {
        var seed = SeededRandom("CrashTests.kills")
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            let archive = try Obstructed(scenario, "archive")
            let load = Load(&seed)
            for _ in 0..<Self.rounds { try Round(scenario, counter, archive, load).run(&seed) }
            let gateway = try Self.start(scenario, counter, "")
            try gateway.drain("up", "archive")
            try Self.check(load, sent: try counter.tally(), archived: try counter.scan(archive.path))
        }
    }

    /// Starts a gateway with an archive and an upstream.
    fileprivate static func start(_ scenario: Scenario, _ counter: CountingUpstream, _ spool: String) throws -> GatewayProcess {
        try GatewayProcess(
            scenario,
            receivers: [
                "archive": ReceiverEntry.archive(more: SpoolMembers.queue() + ReceiverEntry.quickRetry),
                "up": counter.entry(SpoolMembers.queue() + SpoolMembers.inFlight),
            ], more: SpoolMembers.members("\"sync\": \"always\", \(spool)"))
    }

    /// Checks that all accepted profiles arrived, and that repeats are within the bounds.
    private static func check(_ load: Load, sent tally: Tally, archived: Tally) throws {
        let stored = load.ids(answered: 200)
        print(
            "CrashTests: \(rounds) kills, \(stored.count) of \(load.sent) profiles got 200, \(load.ids(answered: 0).count) no answer;",
            "twice at the upstream: \(tally.repeated.reduce(0, +)), after one kill at most \(tally.repeated.max() ?? 0)")
        #expect(!stored.isEmpty)
        for (place, tally) in [("upstream", tally), ("archive", archived)] {
            let missing = stored.filter { tally[$0] == 0 }
            #expect(missing.count == 0, "got 200 and never came to the \(place): \(missing.prefix(20))")
            #expect(tally.foreign == [], "what nobody sent came to the \(place)")
            #expect(tally.counts.count <= load.sent, "a profile that was never sent came to the \(place)")
            #expect(tally.twice == 0, "from one process, or under two names, nothing comes twice to the \(place)")
        }
        let halves = tally.ids.symmetricDifference(archived.ids)
        #expect(halves.count == 0, "a profile is at all receivers or, without an answer, at none: \(halves.sorted().prefix(20))")
        // A repeated profile was open at the kill, or settled but not yet synced; how many there are differs from kill to kill.
        #expect(tally.repeated.reduce(0, +) <= rounds * SpoolMembers.openDeliveries, "\(tally.repeated)")
    }
}

/// The life of one process under load until it is killed.
private struct Round {
    /// What goes wrong at the destinations during the round.
    enum Trouble: CaseIterable { case none, refuses, holds, fails, archiveFails }

    private let scenario: Scenario
    private let counter: CountingUpstream
    private let archive: Obstructed
    private let load: Load

    init(_ scenario: Scenario, _ counter: CountingUpstream, _ archive: Obstructed, _ load: Load) {
        (self.scenario, self.counter, self.archive, self.load) = (scenario, counter, archive, load)
    }

    /// Starts a process under load, sometimes with trouble, and ends it.
    func run(_ seed: inout SeededRandom) throws {
        if seed.chance(1, of: 6) { try killAtStart(&seed) }
        let gateway = try CrashTests.start(scenario, counter, Self.spools.randomElement(using: &seed) ?? "")
        load.start(gateway, connections: Int.random(in: 1...8, using: &seed))
        let trouble = Trouble.allCases.randomElement(using: &seed) ?? .none
        try wait(for: Int.random(in: 0...60, using: &seed))
        try begin(trouble)
        try wait(for: Int.random(in: 0...150, using: &seed))
        // Sometimes the process ends in order, and the backlog is on disk all the same.
        if seed.chance(1, of: 8) {
            #expect(try gateway.stop() == 0)
        } else {
            try gateway.kill()
        }
        load.finish()
        try counter.startNextLife()
        try end(trouble)
    }

    private static let spools = ["", "\"segment_bytes\": \"64KiB\"", "\"segment_bytes\": \"256KiB\"", "\"segment_bytes\": \"1MiB\""]

    private func wait(for answers: Int) throws { try load.wait(forAnswers: load.answered + answers) }

    /// Starts a process and kills it while it reads the spool of the previous one.
    private func killAtStart(_ seed: inout SeededRandom) throws {
        let config = scenario.path("gateway.json")
        guard FileManager.default.fileExists(atPath: config) else { return }
        let process = try scenario.start([try Project.builtGateway(), "run", "--config", config])
        if seed.chance(1, of: 2) { try process.errors.wait(for: "msg=") }
        process.signal(SIGKILL)
        try process.waitForExit()
        try counter.startNextLife()
    }

    private func begin(_ trouble: Trouble) throws {
        switch trouble {
        case .none: break
        case .refuses: try counter.refuse()
        case .holds: try counter.hold()
        case .fails: try counter.answer(503)
        case .archiveFails: try archive.obstruct()
        }
    }

    private func end(_ trouble: Trouble) throws {
        switch trouble {
        case .none: break
        case .refuses: try counter.listen()
        case .holds, .fails: try counter.answer()
        case .archiveFails: try archive.clear()
        }
    }
}

/// A link that leads to a folder, or to a file that obstructs it.
final class Obstructed {
    let path: String
    private let scenario: Scenario
    private let name: String

    init(_ scenario: Scenario, _ name: String) throws {
        (self.scenario, self.name, path) = (scenario, name, scenario.path("\(name)-files"))
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try scenario.write("", to: "\(name)-obstacle")
        try clear()
    }

    func obstruct() throws { try lead(to: "\(name)-obstacle") }
    func clear() throws { try lead(to: "\(name)-files") }

    /// Points the link to this target atomically.
    private func lead(to target: String) throws {
        try FileManager.default.createSymbolicLink(atPath: scenario.path("\(name).new"), withDestinationPath: target)
        try scenario.replace(name, by: "\(name).new")
    }
}
