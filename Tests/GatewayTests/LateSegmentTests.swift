import Foundation
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Receivers
@testable import SpoolStore

@Suite("Segments that cannot be read at the start")
struct LateSegmentTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }
    private static let first = "0000000000000001"

    /// Restarts with the first segment unreadable, and returns the folder that its files were moved to.
    private func startWithoutFirst(_ spool: SpoolFixture, _ error: Int32 = EACCES) throws -> String {
        let away = spool.folder + "/away"
        try FileManager.default.createDirectory(atPath: away, withIntermediateDirectories: true)
        try spool.restart { try move(spool.folder + "/spool", away) }
        spool.spool?.leaveUntouched(UnreadableSegment(number: 1, file: .index, reason: .system(SystemError("open", code: error))))
        return away
    }

    /// Moves the first segment's files from one folder to another.
    private func move(_ from: String, _ to: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: from) where name.hasPrefix(Self.first) {
            try FileManager.default.moveItem(atPath: "\(from)/\(name)", toPath: "\(to)/\(name)")
        }
    }

    @Test("A late segment is delivered once it can be read, beside newer profiles, and the accounts balance", arguments: [0, 7])
    func takenIn(settled: Int) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(300, body: 1000)
        let opened = try spool.open(settled)
        spool.settle(opened)
        let away = try startWithoutFirst(spool)
        #expect(spool.spool?.unreadable.map(\.file) == ["\(Self.first).index"])
        #expect(spool.receivers[0].state.withLock { $0.health.0 } == .degraded)
        let before = spool.account().recovered
        #expect((1..<300).contains(before))
        // Before the spool looks again, which is after a second.
        try move(away, spool.folder + "/spool")
        let open = try spool.open(20)
        try spool.submit(10, body: 1000)
        try spool.wait { $0.unreadable.isEmpty && $0.segments[1] != nil }
        spool.spool?.flush()
        #expect(spool.account().recovered == 300 - settled && spool.isBalanced())
        spool.settle(open)
        let rest = try spool.deliverAll()
        #expect(rest.count + 20 == 310 - settled && Set(rest).count == rest.count)
        #expect(spool.account().dropped == [:] && spool.isBalanced() && spool.queued() == 0)
        #expect(spool.receivers[0].state.withLock { $0.health.0 } == .ok)
    }

    @Test("A receiver that attaches after the segment was read gets its profiles too")
    func attachedLater() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(200, body: 1000)
        let away = try startWithoutFirst(spool)
        try move(away, spool.folder + "/spool")
        try spool.wait { $0.segments[1] != nil }
        spool.receivers[0].update { _ = $0.close() }
        spool.receivers[0].detach()
        let next = SpoolFixture.makeReceiver(Self.up, spool.spool)
        next.attach()
        defer { next.detach() }
        #expect(next.state.withLock { $0.account.recovered } == 200)
        var delivered = 0
        while case let opened = try spool.open(next), !opened.isEmpty {
            for delivery in opened { next.finish(delivery.token, DeliveryOutcome(status: .delivered)) }
            delivered += opened.count
        }
        #expect(delivered == 200)
    }

    @Test("A copied profile is delivered once, although its original becomes readable later")
    func copied() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(50, body: 1000)
        let kept = try #require(try spool.open(1).first).sequence
        try spool.deliverAll()
        let saved = try spool.files.filter { $0.hasPrefix(Self.first) }.map {
            ($0, try Data(contentsOf: URL(fileURLWithPath: spool.path($0))))
        }
        while spool.segments.first?.hasPrefix(Self.first) == true { try spool.submit(5, body: 1000) }
        let waiting = spool.queued()
        try spool.restart()
        for (name, bytes) in saved { try bytes.write(to: URL(fileURLWithPath: spool.path(name))) }
        // A start that finds the segment unreadable records these sequences.
        let copies = SpoolFolder(DataDirectory(spool.folder))
        let orphans = try SpoolRecovery.read(copies, mayWrite: false).orphans
        spool.spool?.state.withLock { $0.start.sequences.formUnion(orphans) }
        spool.spool?.leaveUntouched(UnreadableSegment(number: 1, file: .records, reason: .system(SystemError("open", code: EMFILE))))
        try spool.wait { $0.unreadable.isEmpty }
        spool.spool?.flush()
        let delivered = try spool.deliverAll()
        #expect(delivered.count == waiting && Set(delivered).count == waiting && delivered.contains(kept))
    }

    @Test("A file is given up only after five disk failures in a row", arguments: [4, 5])
    func failures(count: Int) {
        var late = LateSegment(1)
        func fail(_ code: Int32, isFailing: Bool) -> Bool {
            let error = UnreadableSegment(number: 1, file: .index, reason: .system(SystemError("read", code: code)))
            return late.fail(error, isFailing: isFailing, byteCount: 9, now: MonotonicTime(nanoseconds: 0)).isLost
        }
        for _ in 0..<50 { #expect(!fail(EACCES, isFailing: false)) }
        let isLost = (0..<count).map { _ in fail(EIO, isFailing: true) }.last
        #expect(isLost == (count >= 5))
        #expect(late.lost == (count >= 5 ? [.index] : []))
        for _ in 0..<50 { _ = fail(EACCES, isFailing: false) }
        #expect(late.nextLook == MonotonicTime(nanoseconds: 30_000_000_000), "each 30 s at most")
    }

    @Test("A pipe, folder or link in place of a spool's file is set aside and does not block", arguments: ["pipe", "folder", "link"])
    func special(kind: String) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(5, body: 100)
        spool.settle(try spool.open(2))
        try spool.restart {
            for suffix in ["settled", "index"] {
                let path = spool.path("\(Self.first).\(suffix)")
                try FileManager.default.removeItem(atPath: path)
                switch kind {
                case "pipe": try #require(mkfifo(path, 0o600) == 0)
                case "folder": try FileManager.default.createDirectory(atPath: path + "/x", withIntermediateDirectories: true)
                default: try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/dev/zero")
                }
            }
            try FileManager.default.removeItem(atPath: spool.folder + "/sequence")
            try #require(mkfifo(spool.folder + "/sequence", 0o600) == 0)
        }
        // The two settled profiles are delivered again, because the settled file is lost.
        #expect(try spool.deliverAll().count == 5)
        let aside = try FileManager.default.contentsOfDirectory(atPath: spool.folder + "/quarantine")
        #expect(Set(aside) == ["\(Self.first).settled", "\(Self.first).index", "sequence"])
        #expect(spool.spool?.damagedRecords.value == 2)
    }

    @Test("Two files of the same name are both kept in the quarantine")
    func quarantine() throws {
        let spool = try SpoolFixture(Self.up)
        for text in ["one", "two"] {
            try spool.restart { try Data(text.utf8).write(to: URL(fileURLWithPath: spool.path("stray.tmp"))) }
        }
        let texts = try ["stray.tmp", "stray.tmp.1"].map { try String(contentsOfFile: "\(spool.folder)/quarantine/\($0)", encoding: .utf8) }
        #expect(texts == ["one", "two"])
    }
}
