import Foundation
import Testing

@testable import TestSupport

@Suite("Full disks", .serialized, .enabled(if: SmallDisk.isPossible, SmallDisk.reason))
struct FullDiskTests {
    /// Sizes with which a few hundred profiles fill a small disk.
    private static let some = Load.Mix(sizes: [20_000, 100_000])

    /// Starts a gateway with its spool in a folder, one reachable receiver and these others.
    private static func start(
        _ scenario: Scenario, _ here: CountingUpstream, _ others: [String: String], folder: String = "data", onFull: String = "drop_oldest"
    ) throws -> GatewayProcess {
        let healthy = ["here": here.entry(SpoolMembers.queue(onFull) + SpoolMembers.inFlight)]
        return try GatewayProcess(
            scenario, receivers: others.merging(healthy) { $1 },
            more: SpoolMembers.members("\"max_bytes\": \"16GiB\", \"segment_bytes\": \"1MiB\"", folder: folder))
    }

    /// Checks that a destination got these profiles, none twice, and nothing foreign.
    private static func check(_ tally: Tally, _ load: Load, has ids: [Int], _ place: Comment) {
        #expect(tally.foreign == [], place)
        #expect(tally.counts.count <= load.sent, place)
        #expect(tally.twice == 0, place)
        let missing = ids.filter { tally[$0] == 0 }
        #expect(missing.count == 0, "\(place): \(missing.prefix(20))")
    }

    // MARK: The spool

    @Test("With drop_oldest, senders get 200 on a full disk, drops are counted, and the reachable receiver loses nothing")
    func dropOldest() throws {
        var seed = SeededRandom("FullDiskTests.dropOldest")
        try Scenario.run { scenario in
            _ = try SmallDisk(scenario)
            let (here, away) = (try CountingUpstream(scenario), try CountingUpstream(scenario))
            try away.refuse()
            let gateway = try Self.start(
                scenario, here, ["away": away.entry(SpoolMembers.queue() + SpoolMembers.inFlight)], folder: "disk/data")
            let load = Load(&seed, Self.some)
            // Goes on until the disk has been full for a while.
            for _ in 0..<20 {
                try load.send(100, to: gateway)
                if try gateway.metrics().dropped("away") > 500 { break }
            }
            #expect(load.ids(answered: 200).count == load.sent)
            try gateway.drain("here")
            let metrics = try gateway.metrics()
            #expect(metrics.dropped("away") > 0)
            #expect(metrics.reasons("away").isSubset(of: ["queue_full", "spool_full"]))
            #expect(metrics.dropped("here") == 0, "a backlog of another's is what has to go")
            Self.check(try here.tally(), load, has: load.ids(answered: 200), "here")
            try gateway.checkAccounts()

            try away.listen()
            try gateway.drain("away", "here")
            #expect(try away.tally().distinct == gateway.metrics().delivered("away"))
            let before = load.sent
            try load.send(50, to: gateway)
            try gateway.drain("away", "here")
            let well = try gateway.waitForMetrics("health") { $0.health("away") == 0 && $0.health("here") == 0 }
            #expect(well.dropped("away") == metrics.dropped("away"))
            Self.check(try away.tally(), load, has: Array(before..<load.sent), "away")
        }
    }

    @Test("A disk that does not tell its size is not taken to be full", arguments: ["drop_oldest", "reject"])
    func unknownSize(onFull: String) throws {
        var seed = SeededRandom("FullDiskTests.unknownSize")
        try Scenario.run { scenario in
            let disk = try SmallDisk(scenario, type: "ramfs")
            #expect(disk.free == 0)
            let here = try CountingUpstream(scenario)
            let gateway = try Self.start(scenario, here, [:], folder: "disk/data", onFull: onFull)
            let load = Load(&seed, Self.some)
            try load.send(20, to: gateway)
            #expect(load.ids(answered: 200).count == load.sent)
            try gateway.drain("here")
            #expect(try gateway.metrics().dropped("here") == 0)
            Self.check(try here.tally(), load, has: load.ids(answered: 200), "here")
        }
    }

    @Test("With reject, senders get 503 on a full disk and 200 once there is room, and every profile with a 200 arrives")
    func reject() throws {
        var seed = SeededRandom("FullDiskTests.reject")
        try Scenario.run { scenario in
            let disk = try SmallDisk(scenario)
            try disk.setBallast(mebibytes: 16)
            let (here, away) = (try CountingUpstream(scenario), try CountingUpstream(scenario))
            try away.refuse()
            let gateway = try Self.start(
                scenario, here, ["away": away.entry(SpoolMembers.queue("reject") + SpoolMembers.inFlight)], folder: "disk/data",
                onFull: "reject")
            let load = Load(&seed, Self.some)
            try Self.send(load, gateway, until: 503)
            let refused = try RawConnection(gateway.port).post("/ingest?name=big", String(repeating: "x", count: 1 << 20))
            #expect(refused.status == 503)
            #expect(refused.header("Retry-After") != nil)

            // The disk gets room before the upstream comes back.
            try disk.setBallast(mebibytes: 0)
            let stored = load.ids(answered: 200).count
            try Self.send(load, gateway, until: 200)
            #expect(load.ids(answered: 200).count > stored)
            try Self.send(load, gateway, until: 503)
            #expect(try gateway.metrics().dropped("away") == 0)

            // The backlog survives a kill, and a start on a full disk.
            try gateway.kill()
            try here.startNextLife()
            let next = try gateway.again()
            try away.listen()
            try next.drain("away", "here")
            try Self.send(load, next, until: 200)
            try next.drain("away", "here")
            try next.waitForMetrics("health") { $0.health("away") == 0 && $0.health("here") == 0 }
            for (counter, place) in [(here, "here"), (away, "away")] {
                let tally = try counter.tally()
                Self.check(tally, load, has: load.ids(answered: 200), "\(place)")
                #expect(load.ids(answered: 503).allSatisfy { tally[$0] == 0 }, "who is told 503 sends it again")
            }
        }
    }

    /// Sends until a request gets this answer, and checks that all answers are 200 or 503.
    private static func send(_ load: Load, _ gateway: GatewayProcess, until status: Int) throws {
        let (limit, before) = (Date(timeIntervalSinceNow: Project.patience), load.ids(answered: status).count)
        while load.ids(answered: status).count == before {
            guard Date() < limit else { throw NeverCame(what: "an answer \(status)", seen: gateway.log.lines) }
            try load.send(20, to: gateway)
        }
        #expect(load.ids(answered: 200).count + load.ids(answered: 503).count == load.sent)
    }

    // MARK: What receivers write

    @Test("An archive on a full disk keeps its profiles in a spool on another disk, and stores all once there is room")
    func archive() throws {
        var seed = SeededRandom("FullDiskTests.archive")
        try Scenario.run { scenario in
            let disk = try SmallDisk(scenario)
            try disk.setBallast(mebibytes: 24)
            let here = try CountingUpstream(scenario)
            let gateway = try Self.start(
                scenario, here,
                [
                    "archive": ReceiverEntry.archive(
                        "disk/archive", more: SpoolMembers.queue() + SpoolMembers.inFlight + ReceiverEntry.quickRetry)
                ])
            // This is less than a whole disk, but more than the free room.
            let load = Load(&seed, Load.Mix(sizes: [100_000], pushes: false))
            try load.send(200, to: gateway)
            try gateway.waitForMetrics("a failed archive") { $0.health("archive") == 2 && $0.delivered("here") == 200 }
            #expect(load.ids(answered: 200).count == 200)
            #expect(try gateway.metrics().queued("archive") > 0)

            try gateway.kill()
            try here.startNextLife()
            let next = try gateway.again()
            try next.waitForMetrics("a failed archive") { $0.health("archive") == 2 }
            try disk.setBallast(mebibytes: 0)
            try next.drain("archive", "here")
            try next.waitForMetrics("health") { $0.health("archive") == 0 }
            #expect(try next.metrics().dropped("archive") == 0)
            let archived = try here.scan("\(disk.path)/archive/")
            Self.check(archived, load, has: Array(0..<200), "archive")
            #expect(archived.requests == 200, "no file is half a profile")
        }
    }

    @Test(
        "Dead letters without room are counted as dropped and affect no other receiver, and are kept again once there is room",
        .enabled(if: SmallDisk.canMount, SmallDisk.reason))
    func deadLetters() throws {
        var seed = SeededRandom("FullDiskTests.deadLetters")
        try Scenario.run { scenario in
            // The gateway follows no link below data_dir.
            let disk = try SmallDisk(scenario, "data/dead-letter", isLinked: false)
            try disk.setBallast(mebibytes: 28)
            let (here, rejecting) = (try CountingUpstream(scenario), try CountingUpstream(scenario))
            try rejecting.answer(400)
            let gateway = try Self.start(scenario, here, ["rejecting": rejecting.entry(SpoolMembers.queue() + SpoolMembers.inFlight)])
            let load = Load(&seed, Load.Mix(sizes: [100_000], pushes: false))
            try load.send(200, to: gateway)
            #expect(load.ids(answered: 200).count == 200)
            try gateway.drain("here")
            Self.check(try here.tally(), load, has: Array(0..<200), "here")
            try gateway.waitForMetrics("a full disk, or the last letter") { disk.free < 128 << 10 || $0.queued("rejecting") == 0 }
            #expect(try gateway.metrics().deadLettered("rejecting") < 200)
            try gateway.checkAccounts()

            try disk.setBallast(mebibytes: 0)
            try gateway.drain("rejecting")
            let full = try gateway.metrics()
            try load.send(20, to: gateway)
            try gateway.drain("rejecting", "here")
            let metrics = try gateway.metrics()
            #expect(metrics.deadLettered("rejecting") == full.deadLettered("rejecting") + 20)
            #expect(metrics.deadLettered("rejecting") + metrics.dropped("rejecting") == load.sent)
            let kept = try here.scan("\(disk.path)/rejecting")
            Self.check(kept, load, has: Array(200..<load.sent), "dead letters")
            #expect(kept.distinct == metrics.deadLettered("rejecting"))
        }
    }
}
