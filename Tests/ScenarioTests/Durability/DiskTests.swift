import Foundation
import Glibc
import Testing

@testable import TestSupport

/// Files that cannot be read for a while, and a data directory that disappears.
@Suite(
    "Disks that cannot be read for a while", .serialized,
    .enabled(if: !Project.isSanitized, "a sanitizer and LD_PRELOAD exclude each other"))
struct DiskTests {
    /// Runs a test against a gateway whose upstream refuses connections until the test lets it listen.
    private func run(
        below folder: String = "data", data: String = "data", onFull: String = "drop_oldest",
        _ body: (Scenario, GatewayProcess, CountingUpstream, FaultShim, Load) throws -> Void
    ) throws {
        var seed = SeededRandom("DiskTests")
        try Scenario.run { scenario in
            let counter = try CountingUpstream(scenario)
            try counter.refuse()
            let shim = try FaultShim(scenario, below: folder)
            let config = GatewayProcess.config(
                listeners: GatewayProcess.listener(["up"]),
                receivers: ["up": counter.entry(SpoolMembers.queue(onFull) + SpoolMembers.inFlight)],
                more: SpoolMembers.members("\"segment_bytes\": \"64KiB\"", folder: data))
            let gateway = try GatewayProcess(scenario, config, environment: shim.environment)
            try body(scenario, gateway, counter, shim, Load(&seed, Load.Mix(sizes: [5_000], pushes: false)))
        }
    }

    /// Checks that every profile with a 200 arrived once.
    private func checkAllArrived(_ load: Load, _ tally: Tally) {
        #expect(load.ids(answered: 200).allSatisfy { tally[$0] == 1 } && tally.foreign == [])
    }

    @Test(
        "A segment that cannot be opened at the start is kept and reported, and delivered once it opens",
        arguments: [
            "call=open path=01.records error=EMFILE", "call=open path=01.index error=ENOMEM", "call=open path=01.settled error=EACCES",
            "call=open path=02.index error=ENFILE", "call=pread path=01.settled error=ESTALE", "call=pread path=01.records error=ENOTCONN",
        ])
    func unreadable(rule: String) throws {
        try run { scenario, gateway, counter, shim, load in
            try load.send(60, to: gateway)
            try gateway.kill()
            let files = scenario.files(under: "data/spool")
            try shim.set(rule)
            let next = try gateway.again()
            try next.log.wait(for: "a file of the spool cannot be read")
            #expect(try next.metrics()["gateway_spool_unreadable_segments"] == 1)
            #expect(try next.metrics().health("up") > 0)
            let admin = try RawConnection(next.adminPort)
            admin.send("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            let status = try admin.readResponse().text
            #expect(status.contains("\"unreadable\":[{\"file\":\"00000000000000"))
            #expect(Set(files).isSubset(of: Set(scenario.files(under: "data/spool"))))
            try counter.listen()
            try next.drain("up")
            #expect(try counter.tally().distinct < 60)
            try shim.set()
            try next.waitForMetrics("the segment") { $0["gateway_spool_unreadable_segments"] == 0 && $0.recovered("up") == 60 }
            try next.drain("up")
            try next.checkAccounts()
            let metrics = try next.metrics()
            #expect(metrics.recovered("up") == 60 && metrics.delivered("up") == 60 && metrics.damagedRecords == 0)
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("An index that fails five reads counts as damaged, and is rebuilt from the records")
    func failingIndex() throws {
        try run { scenario, gateway, counter, shim, load in
            try load.send(40, to: gateway)
            try gateway.kill()
            try shim.set("call=reads path=01.index error=EIO")
            let next = try gateway.again()
            try next.waitForMetrics("the segment") { $0["gateway_spool_unreadable_segments"] == 0 }
            // The rebuilt index is a new file elsewhere on the disk.
            try shim.set()
            try counter.listen()
            try next.drain("up")
            #expect(scenario.files(under: "data/quarantine").contains { $0.hasSuffix("0000000000000001.index") })
            #expect(try next.metrics().damagedRecords == 1)
            try next.checkAccounts()
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("After an incomplete listing at the start, nothing is stored or removed until a listing is complete", arguments: [0, 3])
    func listing(skip: Int) throws {
        try run { scenario, gateway, counter, shim, load in
            try load.send(60, to: gateway)
            try gateway.kill()
            let files = scenario.files(under: "data/spool")
            try shim.set("call=readdir path=data/spool skip=\(skip) error=EIO")
            let next = try gateway.again()
            #expect(try next.metrics().health("up") == 2)
            try load.send(1, to: next, connections: 1)
            #expect(load.ids(answered: 503).count == 1)
            #expect(scenario.files(under: "data/spool") == files)
            try shim.set()
            try next.waitForMetrics("the spool") { $0.recovered("up") == 60 }
            try counter.listen()
            try next.drain("up")
            try next.checkAccounts()
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("A receiver whose records cannot be read is failed and loses none", arguments: ["ESTALE", "ENOTCONN", "EACCES", "ENOMEM"])
    func records(error: String) throws {
        try run { _, gateway, counter, shim, load in
            try load.send(200, to: gateway)
            try gateway.kill()
            try shim.set("call=open path=.records skip=100000 error=\(error)")
            let next = try gateway.again()
            try shim.set("call=open path=.records error=\(error)")
            try counter.listen()
            try next.waitForMetrics("its health") { $0.health("up") == 2 }
            try shim.waitForFault(next, count: 50)
            #expect(try next.metrics().dropped("up") == 0)
            try shim.set()
            try next.drain("up")
            try next.waitForMetrics("its health") { $0.health("up") == 0 }
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("While data_dir is missing senders get 503, and all works once it is back", arguments: ["drop_oldest", "reject"])
    func away(onFull: String) throws {
        try run(onFull: onFull) { scenario, gateway, counter, _, load in
            try load.send(100, to: gateway)
            try gateway.kill()
            let next = try gateway.again()
            try FileManager.default.moveItem(atPath: scenario.path("data"), toPath: scenario.path("elsewhere"))
            try next.log.wait(for: "data_dir is away")
            #expect(try next.metrics().health("up") == 2)
            try load.send(20, to: next)
            #expect(load.ids(answered: 503).count == 20)
            #expect(!FileManager.default.fileExists(atPath: scenario.path("data")))
            try FileManager.default.moveItem(atPath: scenario.path("elsewhere"), toPath: scenario.path("data"))
            try next.log.wait(for: "data_dir is back")
            try load.send(20, to: next)
            try counter.listen()
            try next.drain("up")
            #expect(try next.metrics().dropped("up") == 0 && load.ids(answered: 200).count == 120)
            try next.checkAccounts()
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("The parent of each new folder is synced")
    func folders() throws {
        try run(below: "top", data: "top/deep/er/data") { scenario, gateway, counter, shim, load in
            try counter.answer(400)
            try counter.listen()
            try load.send(3, to: gateway)
            try gateway.waitForMetrics("dead letters") { $0.deadLettered("up") == 3 }
            let synced = Set(try shim.calls.filter { $0.name == "fsync" && $0.hasSucceeded }.map(\.path))
            let parents = ["", "/deep", "/deep/er", "/deep/er/data", "/deep/er/data/dead-letter", "/deep/er/data/dead-letter/up"]
            // The shim does not report folders above the first one.
            #expect(Set(parents.map { scenario.path("top") + $0 }).isSubset(of: synced))
        }
    }

    @Test("queue list, verify and show name the file that cannot be read, and exit with 1", arguments: ["list", "verify", "show"])
    func commands(command: String) throws {
        try run { scenario, gateway, _, shim, load in
            try load.send(5, to: gateway)
            try gateway.kill()
            try shim.set("call=open path=01.index error=EACCES")
            let process = try scenario.start(
                [try Project.builtGateway(), "queue", command, "--config", scenario.path("gateway.json")], environment: shim.environment)
            #expect(try process.waitForExit() == 1)
            let said = (process.output.lines + process.errors.lines).joined(separator: "\n")
            #expect(said.contains("0000000000000001.index") && said.contains("cannot be read") && said.contains("Permission denied"))
            #expect(!said.contains("nothing waits") && !said.contains("no damage"))
        }
    }

    @Test("A data_dir that returns as another folder is accepted by its lock and sequence once the old folder no longer answers")
    func takenAgain() throws {
        try run(below: "top", data: "top/data") { scenario, gateway, counter, shim, load in
            try load.send(50, to: gateway)
            try gateway.kill()
            let next = try gateway.again()
            try FileManager.default.moveItem(atPath: scenario.path("top/data"), toPath: scenario.path("top/former"))
            try scenario.run("cp", "-a", scenario.path("top/former"), scenario.path("top/data"))
            try next.log.wait(for: "data_dir is away")
            try load.send(1, to: next, connections: 1)
            #expect(load.ids(answered: 503).count == 1, "the former one answers, so this is a copy")
            let before = scenario.files(under: "top/former/spool").filter { $0.hasSuffix(".records") }
            try shim.set("call=open path=top/former/sequence error=ESTALE")
            try next.log.wait(for: "data_dir is back")
            try load.send(20, to: next)
            #expect(scenario.files(under: "top/former/spool").filter { $0.hasSuffix(".records") } == before)
            try counter.listen()
            try next.drain("up")
            #expect(load.ids(answered: 200).count == 70)
            try next.checkAccounts()
            checkAllArrived(load, try counter.tally())
        }
    }

    @Test("A record that the disk fails to read counts as damaged only while the data folder is readable", arguments: [false, true])
    func failingRecords(isFolderFailing: Bool) throws {
        try run { scenario, gateway, counter, shim, load in
            try load.send(30, to: gateway)
            try gateway.kill()
            // Without what is remembered of the end, records are read and delivered in a hurry, and not one at a time.
            try FileManager.default.removeItem(atPath: scenario.path("data/crash-id"))
            let next = try gateway.again()
            let all = isFolderFailing ? "call=pread path=data/sequence error=EIO" : "call=pread path=none error=EIO"
            try shim.set("call=pread path=01.records error=EIO", all)
            try counter.listen()
            if isFolderFailing {
                try shim.waitForFault(next, count: 200)
                #expect(try next.metrics().dropped("up") == 0 && next.metrics().health("up") == 2)
                try shim.set()
            }
            try next.waitForMetrics("an empty queue") { $0.queued("up") == 0 }
            let dropped = try next.metrics().dropped("up", "damaged")
            #expect((dropped > 0) != isFolderFailing)
            #expect(try counter.tally().distinct == 30 - dropped)
            try next.checkAccounts()
        }
    }
}
