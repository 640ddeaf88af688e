import Foundation
import Glibc
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Receivers
@testable import SpoolStore

@Suite("Segments that are copied forward or removed")
struct SpoolCopyingTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }
    private static var archive: ReceiverConfig { SpoolFixture.receiver("archive") }

    @Test("The few profiles left in the oldest segments are copied forward, delivered once and settled for good")
    func copyForward() throws {
        let spool = try SpoolFixture(Self.up, Self.archive)
        try spool.submit(60, body: 5_000)
        let opened = try spool.open(60, at: 0)
        let stuck = [opened[0], opened[20]]
        spool.settle(opened.filter { delivery in !stuck.contains { $0.sequence == delivery.sequence } }, at: 0)
        try spool.deliverAll(at: 1)
        #expect(spool.segments.count <= 2, "two profiles hold no more than the segment they were copied to")
        for delivery in stuck { spool.settle([delivery], DeliveryOutcome(status: .retry, reason: "later"), at: 0) }
        try spool.restart()
        #expect(spool.account(0).recovered == 2)
        #expect(try spool.deliverAll(at: 0) == stuck.map(\.sequence))
        try spool.restart()
        #expect(spool.account(0).recovered == 0)
    }

    @Test(
        "What is left of a segment is copied forward after a delay, or when its room is needed",
        arguments: [Duration.zero, .seconds(3600)])
    func copyDelay(delay: Duration) throws {
        let config = SpoolConfig(maxBytes: 500_000, minFreeBytes: 0, segmentBytes: 64 << 10)
        let spool = try SpoolFixture(Self.up, spool: config, copyDelay: delay)
        try spool.submit(60, body: 5_000)
        let opened = try spool.open(60)
        spool.settle([opened[1]], DeliveryOutcome(status: .retry, reason: "later"))
        spool.settle(opened.filter { $0.sequence != opened[1].sequence })
        let isKept = spool.segments.contains("0000000000000001.records")
        #expect(isKept == (delay > .zero))
        try spool.submit(88, body: 5_000)
        #expect(!spool.segments.contains("0000000000000001.records"))
        #expect(spool.account().dropped == [:] && spool.queued() == 89)
        spool.ahead += .seconds(3600)
        let delivered = try spool.deliverAll()
        #expect(delivered.count == 89 && delivered.contains(opened[1].sequence))
    }

    @Test("The spool's thread copies segments forward when the delay is over, with nothing else to do")
    func copiesLater() throws {
        let spool = try SpoolFixture(Self.up, copyDelay: .milliseconds(1500))
        try spool.submit(60, body: 5_000)
        let opened = try spool.open(60)
        let stuck = [0, 20, 40].map { opened[$0] }
        spool.settle(opened.filter { delivery in !stuck.contains { $0.sequence == delivery.sequence } })
        try spool.wait { $0.segments.count == 1 }
        spool.settle(stuck)
        #expect(spool.isBalanced())
    }

    @Test("A profile is delivered once when a crash leaves both its copy and its original")
    func crashWhileCopying() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(40, body: 5_000)
        let opened = try spool.open(40)
        let saved = spool.folder + "/saved"
        try FileManager.default.copyItem(atPath: spool.folder + "/spool", toPath: saved)
        let first = try #require(spool.segments.first?.prefix(16))
        spool.settle(Array(opened.dropFirst()))
        #expect(!spool.segments.contains { $0.hasPrefix(first) })
        try spool.restart {
            for file in try FileManager.default.contentsOfDirectory(atPath: saved) where file.hasPrefix(first) {
                try FileManager.default.copyItem(atPath: "\(saved)/\(file)", toPath: spool.path(file))
            }
        }
        // The restored original has lost its settled entries, which a crash may do; the copy does not count beside it.
        let sequences = try spool.deliverAll()
        #expect(Set(sequences).count == sequences.count)
        #expect(sequences.contains(opened[0].sequence))
    }

    @Test("The blocks of a removed segment are freed in steps", arguments: [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 7 << 19, 1 << 40])
    func removedBlocks(size: Int) throws {
        let spool = try SpoolFixture(Self.up)
        let folder = try #require(spool.spool).folder
        let path = spool.path("0000000000000009.records")
        let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT)
        try file.truncate(to: size)
        var removed: RemovedFile?
        #expect(folder.remove(9) { removed = $0 })
        #expect(spool.files.allSatisfy { !$0.hasPrefix("0000000000000009") })
        #expect(try file.size() == size)
        #expect(removed?.byteCount == min(size, Int(UInt32.max)))
        removed?.free()
        #expect(try file.size() == 0)
    }

    @Test("A removed segment that has another name keeps its content")
    func linkedSegment() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(60, body: 5_000)
        let (path, copy) = (spool.path(spool.segments[0]), spool.folder + "/copy")
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        try FileManager.default.linkItem(atPath: path, toPath: copy)
        try spool.deliverAll()
        spool.close()
        #expect(!FileManager.default.fileExists(atPath: path))
        #expect(try Data(contentsOf: URL(fileURLWithPath: copy)) == before)
    }

    @Test("No removed segment stays open")
    func removedFiles() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(60, body: 5_000)
        try spool.deliverAll()
        #expect(spool.segments.count == 1)
        spool.close()
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap {
            try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + $0)
        }
        #expect(open.filter { $0.hasPrefix(spool.folder) } == [])
    }
}
