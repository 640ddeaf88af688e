import Foundation
import Glibc
import Testing

@testable import TestSupport

/// A failing disk, imitated by a shim that is preloaded; a sanitizer must be preloaded first, so both exclude each other.
@Suite(
    "Failing disks", .serialized,
    .enabled(if: !Project.isSanitized, "a sanitizer and LD_PRELOAD exclude each other"))
struct FaultTests {
    /// Runs a test against a gateway on a disk with faults, whose upstream refuses connections until the test lets it listen.
    private func run(
        below folder: String = "data", onFull: String = "reject", sync: String = "\"sync\": \"always\"",
        _ body: (Scenario, GatewayProcess, CountingUpstream, FaultShim, inout SeededRandom) throws -> Void
    ) throws {
        var seed = SeededRandom("FaultTests")
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            try counter.refuse()
            let shim = try FaultShim(scenario, below: folder)
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"]),
                receivers: ["up": counter.entry(SpoolMembers.queue(onFull) + SpoolMembers.inFlight)],
                more: SpoolMembers.members("\(sync), \"segment_bytes\": \"256KiB\""))
            try body(scenario, try GatewayProcess(scenario, config, environment: shim.environment), counter, shim, &seed)
        }
    }

    /// Kills the process, starts another one on a disk without faults, and checks that every profile with a 200 arrives.
    private func checkAfterKill(_ gateway: GatewayProcess, _ counter: CountingUpstream, _ load: Load) throws {
        try gateway.kill()
        try counter.startNextLife()
        try counter.listen()
        let next = try gateway.again(environment: [:])
        try next.drain("up")
        try next.checkAccounts()
        try Self.check(load, try counter.tally())
    }

    /// Checks that profiles with a 200 arrived, those with a 503 did not, and none came twice.
    private static func check(_ load: Load, _ tally: Tally) throws {
        let missing = load.ids(answered: 200).filter { tally[$0] == 0 }
        #expect(missing.count == 0, "got 200 and never came: \(missing.prefix(20))")
        #expect(load.ids(answered: 503).allSatisfy { tally[$0] == 0 }, "who is told 503 sends it again")
        #expect(tally.foreign == [])
        #expect(tally.counts.count <= load.sent)
        #expect(tally.twice == 0)
    }

    // MARK: Writing

    @Test("A short write is continued until everything is written")
    func shortWrites() throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed)
            try shim.set("call=writes short=1")
            try load.send(200, to: gateway)
            #expect(load.ids(answered: 200).count == 200)
            #expect(try gateway.metrics().damagedRecords == 0)
            try shim.waitForFault(gateway)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test(
        "A failed write is answered with 503 or repeated in another file, and later requests succeed once the disk works",
        arguments: ["EIO", "ENOSPC", "EDQUOT"], [1, 20])
    func failingWrites(error: String, count: Int) throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed)
            try load.send(50, to: gateway)
            try shim.set("call=writes path=.records skip=3 count=\(count) error=\(error)")
            try load.send(100, to: gateway)
            try shim.waitForFault(gateway)
            #expect(try gateway.metrics().writeErrors > 0)
            try shim.set()
            try sendUntilStored(load, gateway)
            let statuses = load.ids(answered: 200).count + load.ids(answered: 503).count
            #expect(statuses == load.sent, "200 or 503, and nothing else")
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("A write that fails within a record does not damage the records after it")
    func halfARecord() throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [100_000]))
            try shim.set("call=writes path=.records short=1 skip=2 count=1", "call=writes path=.records skip=3 count=1 error=ENOSPC")
            try load.send(50, to: gateway)
            try shim.waitForFault(gateway, count: 2)
            try shim.set()
            try sendUntilStored(load, gateway)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("With a sync interval, a failed write makes the gateway sync what it has already answered")
    func lateSync() throws {
        try run(sync: "\"sync\": \"interval\", \"sync_interval\": \"1h\"") { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [1000]))
            try load.send(20, to: gateway)
            #expect(try shim.calls.filter { $0.name == "fdatasync" && $0.path.hasSuffix(".records") }.isEmpty)
            try shim.set("call=writes path=.records count=1 error=EIO")
            try load.send(5, to: gateway)
            try shim.waitForFault(gateway)
            #expect(load.ids(answered: 200).count == load.sent, "written again to another file")
            _ = try gateway.log.poll(for: "what had got 200 before the failed write is synced when its file is left") {
                try shim.calls.first { $0.name == "fdatasync" && $0.path.hasSuffix(".records") && $0.result == 0 }
            }
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("With a sync interval, a failed sync is logged, and its file is not used again", arguments: ["10ms", "1h"])
    func failingLateSync(interval: String) throws {
        try run(sync: "\"sync\": \"interval\", \"sync_interval\": \"\(interval)\"") { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [100_000]))
            try shim.set("call=syncs path=.records count=1 error=EIO")
            // One is in the open segment when its sync fails. Five do not fit into one segment, which is synced when the next begins.
            try load.send(interval == "10ms" ? 1 : 5, to: gateway, connections: 1)
            try gateway.log.wait(for: "a sync failed; profiles that were answered may be lost in a power cut")
            let failed = try #require(try shim.calls.first(where: \.isInjected)).path
            let before = try shim.calls.count
            try load.send(5, to: gateway, connections: 1)
            #expect(load.ids(answered: 200).count == load.sent)
            let later = try shim.calls[before...]
            #expect(!later.contains { $0.path == failed && ($0.isWrite || $0.isSync && $0.hasSucceeded) })
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("An index whose sync fails is written to another file")
    func failingIndexSync() throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [100_000]))
            try shim.set("call=syncs path=.index count=1 error=EIO")
            try load.send(5, to: gateway, connections: 1)
            try shim.waitForFault(gateway)
            let failed = try #require(try shim.calls.first(where: \.isInjected)).path
            try gateway.log.poll(for: "the index is replaced") {
                try? shim.calls.first { $0.name.hasPrefix("rename") && $0.path == failed && $0.hasSucceeded }
            }
            #expect(load.ids(answered: 200).count == load.sent)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("While no file can be created senders get 503, and 200 once it is possible")
    func failingCreates() throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [50_000]))
            try shim.set("call=create error=ENOSPC")
            // This is more than fits into the open files.
            try load.send(100, to: gateway)
            try shim.waitForFault(gateway)
            #expect(!load.ids(answered: 503).isEmpty)
            try shim.set()
            try sendUntilStored(load, gateway)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("With drop_oldest, senders get 200 from a failing disk, and drops are counted")
    func failingWritesDrop() throws {
        try run(onFull: "drop_oldest") { _, gateway, counter, shim, seed in
            let load = Load(&seed)
            try load.send(50, to: gateway)
            try shim.set("call=writes path=.records error=ENOSPC")
            try load.send(50, to: gateway)
            try shim.waitForFault(gateway)
            #expect(load.ids(answered: 200).count == load.sent)
            let metrics = try gateway.metrics()
            #expect(metrics.reasons("up").isSubset(of: ["queue_full", "spool_full"]))
            try gateway.checkAccounts()
            try shim.set()
            try counter.listen()
            try gateway.drain("up")
            #expect(try counter.tally().distinct == gateway.metrics().delivered("up"))
            try load.send(50, to: gateway)
            try gateway.drain("up")
            #expect(try gateway.metrics().health("up") == 0)
        }
    }

    @Test("A disk that has room for a file's head alone makes old profiles go")
    func roomForHeads() throws {
        try run(onFull: "drop_oldest") { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [100_000]))
            try load.send(12, to: gateway, connections: 1)
            try gateway.kill()
            // After a start each attempt begins a segment. A rule does not see the calls that an earlier one has made fail.
            try shim.set(
                "call=writes path=.records skip=1 count=1 error=ENOSPC", "call=writes path=.records skip=2 count=1 error=ENOSPC",
                "call=writes path=.records skip=3 count=1 error=ENOSPC")
            let next = try gateway.again()
            try load.send(1, to: next, connections: 1)
            #expect(try shim.calls.count(where: \.isInjected) == 3)
            #expect(load.ids(answered: 200).count == load.sent)
            #expect(try next.metrics().reasons("up") == ["spool_full"])
            try next.checkAccounts()
        }
    }

    /// Sends one profile at a time until one gets 200, because 503 is possible for a while after a fault.
    private func sendUntilStored(_ load: Load, _ gateway: GatewayProcess) throws {
        let (limit, before) = (Date(timeIntervalSinceNow: Project.patience), load.ids(answered: 200).count)
        while load.ids(answered: 200).count == before {
            guard Date() < limit else { throw NeverCame(what: "a 200 from a disk that is well again", seen: gateway.log.lines) }
            try load.send(1, to: gateway, connections: 1)
            gateway.log.pause()
        }
    }

    // MARK: Syncing

    @Test(
        "After a failed sync, its records are written to another file, and the failed file is not used again",
        arguments: ["", "lose=1"])
    func failingSync(more: String) throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed, Load.Mix(sizes: [10_000]))
            try load.send(20, to: gateway)
            try shim.set("call=syncs path=.records count=1 error=EIO \(more)")
            try load.send(20, to: gateway, connections: 1)
            try shim.waitForFault(gateway)
            let calls = try shim.calls
            let failure = try #require(calls.firstIndex { $0.isInjected })
            let later = calls[failure...].dropFirst()
            let failed = calls[failure].path
            #expect(
                !later.contains { $0.path == failed && $0.isSync && $0.hasSucceeded }, "the pages are gone, and a sync knows nothing of it")
            #expect(!later.contains { $0.path == failed && $0.isWrite }, "nothing more is trusted to it")
            if !load.ids(answered: 200).filter({ $0 >= 20 }).isEmpty {
                #expect(later.contains { $0.path != failed && $0.path.hasSuffix(".records") && $0.isSync && $0.hasSucceeded })
            }
            #expect(load.ids(answered: 200).count + load.ids(answered: 503).count == load.sent)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("While every sync fails nobody gets 200, and requests succeed once syncs do", arguments: ["", "lose=1"])
    func failingSyncs(more: String) throws {
        try run { _, gateway, counter, shim, seed in
            let load = Load(&seed)
            try load.send(20, to: gateway)
            let before = load.ids(answered: 200).count
            try shim.set("call=syncs path=.records error=EIO \(more)")
            try load.send(20, to: gateway)
            #expect(load.ids(answered: 200).count == before)
            try shim.set()
            try sendUntilStored(load, gateway)
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("A power cut loses only data that was not synced, and no profile with a 200", arguments: 0..<5)
    func powerCut(turn: Int) throws {
        try run { scenario, gateway, counter, shim, seed in
            let load = Load(&seed)
            for _ in 0...turn { _ = seed.next() }
            load.start(gateway, connections: 8)
            try load.wait(forAnswers: Int.random(in: 20...200, using: &seed))
            try gateway.kill()
            load.finish()
            let lost = try PowerCut(try shim.calls).strike()
            print("FaultTests: the power cut took \(lost.bytes) bytes and \(lost.files) files")
            try checkAfterKill(gateway, counter, load)
        }
    }

    @Test("With a sync interval, a power cut later than that loses no profile with a 200, in an open segment or in closed ones")
    func powerCutAfterSync() throws {
        try run(sync: "\"sync\": \"interval\", \"sync_interval\": \"20ms\"") { _, gateway, counter, shim, seed in
            let load = Load(&seed)
            try load.send(100, to: gateway)
            try gateway.log.poll(for: "all profiles are synced") { PowerCut(try shim.calls).takes(from: ".records") ? nil : true }
            try gateway.kill()
            let lost = try PowerCut(try shim.calls).strike()
            print("FaultTests: the power cut took \(lost.bytes) bytes and \(lost.files) files")
            try checkAfterKill(gateway, counter, load)
        }
    }

    // MARK: Other folders

    @Test("A dead letter that cannot be renamed is kept later, or dropped and counted")
    func deadLetters() throws {
        try run(below: "data/dead-letter") { scenario, gateway, counter, shim, seed in
            let load = Load(&seed, .ingest)
            try shim.set("call=renames count=20 error=EIO", "call=link count=20 error=EIO")
            try counter.listen()
            try counter.answer(400)
            try load.send(50, to: gateway)
            try shim.waitForFault(gateway)
            try gateway.drain("up")
            try gateway.checkAccounts()
            let metrics = try gateway.metrics()
            let kept = try counter.scan(scenario.path("data/dead-letter"))
            #expect(metrics.delivered("up") == 0)
            #expect(kept.foreign == [] && kept.twice == 0)
            #expect(kept.distinct == metrics.deadLettered("up"))
            #expect(metrics.deadLettered("up") + metrics.dropped("up") == load.sent)
        }
    }

    @Test("An archive on a failing disk keeps its profiles queued and stores all of them", arguments: ["renames", "writes", "syncs"])
    func archive(call: String) throws {
        var seed = SeededRandom("FaultTests.archive")
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            let shim = try FaultShim(scenario, below: "archive")
            try shim.set("call=\(call) count=10 error=EIO")
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["archive"]),
                receivers: ["archive": ReceiverEntry.archive(more: ReceiverEntry.quickRetry)])
            let gateway = try GatewayProcess(scenario, config, environment: shim.environment)
            let load = Load(&seed, .ingest)
            try load.send(50, to: gateway)
            try shim.waitForFault(gateway, count: 10)
            try gateway.drain("archive")
            try Self.check(load, try counter.scan(scenario.path("archive")))
            #expect(!scenario.files(under: "archive").contains { $0.hasSuffix(".tmp") })
        }
    }

    @Test("An archived profile is still there after a power cut")
    func archivePowerCut() throws {
        var seed = SeededRandom("FaultTests.archivePowerCut")
        try Scenario.run { scenario in
            let (counter, shim) = (try CountingUpstream(scenario), try FaultShim(scenario, below: "archive"))
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["archive"], more: "\"ack\": \"delivered\","),
                receivers: ["archive": ReceiverEntry.archive()])
            let gateway = try GatewayProcess(scenario, config, environment: shim.environment)
            let load = Load(&seed, .ingest)
            load.start(gateway, connections: 16)
            try load.wait(forAnswers: Int.random(in: 50...200, using: &seed))
            try gateway.kill()
            load.finish()
            let lost = try PowerCut(try shim.calls).strike()
            print("FaultTests: the power cut took \(lost.bytes) bytes and \(lost.files) files of the archive")
            try Self.check(load, try counter.scan(scenario.path("archive")))
        }
    }
}
