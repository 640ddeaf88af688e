import Foundation
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import SpoolStore

@Suite("The spool on disk")
struct SpoolTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }
    private static var archive: ReceiverConfig { SpoolFixture.receiver("archive") }

    @Test("Each receiver has its unsettled profiles after a restart, in order and complete")
    func restart() throws {
        let spool = try SpoolFixture(Self.up, Self.archive)
        try spool.submit(20)
        let opened = try spool.open(20, at: 0)
        spool.settle([opened[3], opened[4], opened[9]], at: 0)
        try spool.deliverAll(at: 1)
        try spool.restart()
        #expect(spool.account(0).recovered == 17)
        #expect(spool.account(1).recovered == 0)
        let again = try spool.open(20, at: 0)
        #expect(again.map(\.sequence) == opened.map(\.sequence).enumerated().filter { ![3, 4, 9].contains($0.offset) }.map(\.element))
        #expect(again.allSatisfy { $0.profile.withSample(0) { $0.byteCount } == 100 })
        #expect(spool.isBalanced(0) && spool.isBalanced(1))
    }

    @Test("A segment is filled to its last byte, and a larger request gets a segment of its own", arguments: [-1, 0, 1])
    func segmentSize(excess: Int) throws {
        let spool = try SpoolFixture(Self.up, spool: SpoolConfig(minFreeBytes: 0, segmentBytes: 64 << 10))
        try spool.submit(1, body: 1000)
        let file = spool.path(spool.segments[0])
        let header = try spool.headerSize()
        let record = try #require(FileManager.default.attributesOfItem(atPath: file)[.size] as? Int) - header
        let room = (64 << 10) - header - record
        try spool.submit(1, body: room - record + 1000 + excess)
        #expect(spool.segments.count == (excess > 0 ? 2 : 1))
        try spool.submit(1, body: 200_000)
        #expect(spool.segments.count == (excess > 0 ? 3 : 2))
        #expect(try spool.deliverAll().count == 3)
    }

    @Test("A segment is removed only when its last receiver has settled all of it")
    func segmentsGo() throws {
        let spool = try SpoolFixture(Self.up, Self.archive)
        try spool.submit(40, body: 10_000)
        let before = spool.segments.count
        #expect(before > 5)
        try spool.deliverAll(at: 0)
        #expect(spool.segments.count == before)
        try spool.deliverAll(at: 1)
        #expect(spool.segments.count == 1, "the one that is written to")
    }

    @Test("A backlog that is larger than the queue in memory is delivered in order")
    func backlog() throws {
        let spool = try SpoolFixture(Self.up)
        let count = Backlog.mostEntries + 600
        try spool.submit(count, body: 10)
        #expect(spool.receivers[0].state.withLock { $0.queue.count } == Backlog.mostEntries)
        #expect(spool.queued() == count)
        let first = try spool.deliverAll()
        #expect(first == first.sorted() && first.count == count)
        #expect(spool.isBalanced())
    }

    @Test("The bound max_profiles includes profiles behind the cursor", arguments: [-1, 0, 1])
    func bounds(excess: Int) throws {
        let limit = Backlog.mostEntries + 100
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, maxProfiles: limit)
        let spool = try SpoolFixture(SpoolFixture.receiver("up", queue))
        try spool.submit(limit + excess, body: 10)
        #expect(spool.account().dropped == (excess > 0 ? [.queueFull: 1] : [:]))
        #expect(spool.queued() == min(limit, limit + excess))
        try spool.restart()
        #expect(spool.account().recovered == min(limit, limit + excess))
    }

    @Test("The oldest profiles are dropped beyond spool.max_bytes, or new ones are refused if a receiver rejects")
    func spoolFull() throws {
        let config = SpoolConfig(maxBytes: 1 << 20, minFreeBytes: 0, segmentBytes: 64 << 10)
        let dropping = try SpoolFixture(Self.up, Self.archive, spool: config)
        #expect(try dropping.submit(200, body: 10_000).allSatisfy { $0 == .accepted })
        #expect(try #require(dropping.spool).size.bytes <= 1 << 20)
        let dropped = dropping.account().dropped[.spoolFull] ?? 0
        #expect((90...120).contains(dropped))
        #expect(dropping.isBalanced(0) && dropping.isBalanced(1))
        let left = try dropping.deliverAll()
        #expect(left.count == 200 - dropped && left == left.sorted())

        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, onFull: .reject)
        let rejecting = try SpoolFixture(Self.up, SpoolFixture.receiver("r", queue), spool: config)
        let results = try rejecting.submit(200, body: 10_000)
        #expect(results.contains(.refused(.spoolFull(receiver: "r"))))
        #expect(rejecting.account(0).dropped.isEmpty && rejecting.account(1).dropped.isEmpty)
        #expect(rejecting.account(0).accepted == rejecting.account(1).accepted)
        try rejecting.deliverAll(at: 0)
        try rejecting.deliverAll(at: 1)
        #expect(try rejecting.submit(1, body: 10_000) == [.accepted], "there is room again")
    }

    @Test("Attempts survive a restart, and so does the progress with the same plugin and config")
    func attempts() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(1)
        for _ in 0..<2 {
            let opened = try #require(try spool.open(1).first)
            spool.settle([opened], DeliveryOutcome(status: .retry, progress: 5, reason: "later"))
            spool.receivers[0].state.withLock { $0.queue.wake(now: .never) }
        }
        try spool.restart()
        let same = try #require(try spool.open(1).first).entry
        #expect(same.attempts == 3 && same.progress == 5)
        var other = Self.up
        other.plugin = "another"
        try spool.restart([other])
        let changed = try #require(try spool.open(1).first).entry
        #expect(changed.attempts == 3 && changed.progress == 0)
    }

    @Test("A receiver that is not in the config is listed, keeps its profiles and gets them when it is back")
    func stranger() throws {
        let spool = try SpoolFixture(Self.up, Self.archive)
        try spool.submit(5)
        try spool.restart([Self.archive])
        #expect(spool.spool?.strangers.map(\.receiver) == ["up"])
        #expect(spool.spool?.strangers.map(\.profiles) == [5])
        try spool.deliverAll()
        try spool.restart([Self.up])
        #expect(try spool.deliverAll().count == 5)
    }

    @Test(
        "Sequences continue after those of earlier processes when the clock was set back, without the spool or their file",
        arguments: ["spool", "sequence"])
    func sequence(lost: String) async throws {
        let folder = NSTemporaryDirectory() + "gateway-sequence-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let future = UInt64(MonotonicTime.unixNanoseconds) + 1 << 50
        // Each step has its own process, because a process does not forget its last sequence.
        await #expect(processExitsWith: .success) { [folder = folder as String, future = future as UInt64, lost] in
            ReceivedProfile.continueSequence(after: future)
            let spool = try SpoolFixture(SpoolFixture.receiver("up"), in: folder)
            try spool.submit(1)
            spool.close()
            try FileManager.default.removeItem(atPath: "\(folder)/\(lost)")
        }
        await #expect(processExitsWith: .success) { [folder = folder as String, future = future as UInt64] in
            let spool = try SpoolFixture(SpoolFixture.receiver("up"), in: folder)
            try #require(ReceivedProfile.sequenceToCome > future + 1)
            spool.close()
        }
    }

    @Test("A spool of a newer version or in use by another process is refused and left alone")
    func refused() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(1)
        #expect { try Spool(dataDirectory: spool.folder, SpoolConfig(), pendingLimit: 1) } throws: {
            "\($0)".contains("is in use by another process")
        }
        let file = spool.path(spool.segments[0])
        let folder = spool.folder
        spool.close()
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
        bytes[8] = 2
        let sum = CRC32C.of(bytes, 0..<60)
        for index in 0..<4 { bytes[60 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(index))) }
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        #expect { try Spool(dataDirectory: folder, SpoolConfig(), pendingLimit: 1) } throws: { "\($0)".contains("format version 2") }
        #expect(Array(try Data(contentsOf: URL(fileURLWithPath: file))) == bytes)
    }

    @Test("A record keeps everything that a profile has")
    func coding() throws {
        var body = ByteBuffer()
        try body.append(Array("first,second".utf8).span.bytes)
        let content = ProfileContent(
            api: .push, receivedAt: 1, from: 2, until: 3, tenant: "t", labels: LabelSet(sorted: [Label(name: "a", value: "ü")]),
            path: "/p", query: "q=1&x=%20", format: .jfr, contentType: "ct", contentEncoding: "gzip",
            headers: [Label(name: "h", value: ""), Label(name: "h", value: "2")],
            samples: [.init(id: "one", range: 0..<5), .init(id: "", range: 5..<5), .init(id: "three", range: 6..<12)])
        let profile = ReceivedProfile(content, body: body)
        var stored = ByteBuffer()
        try stored.append(profile.encodedHead.span.bytes)
        for index in 0..<3 { try profile.withSample(index) { try stored.append($0) } }
        let bytes = stored.withBytes { span in (0..<span.count).map { span[$0] } }
        let decoded = ReceivedProfile.decode(stored, at: 0, sequence: profile.sequence)
        let read = try #require(decoded)
        #expect(read.encodedHead == profile.encodedHead)
        #expect(read.withSample(2) { $0.byteCount } == 6)
        for count in 0..<bytes.count {
            var cut = ByteBuffer()
            try cut.append(Array(bytes[..<count]).span.bytes)
            let isProfile = ReceivedProfile.decode(cut, at: 0, sequence: 1) != nil
            #expect(!isProfile, "cut at \(count)")
        }
    }
}

extension SpoolFixture {
    /// The length of a records file's header.
    func headerSize() throws -> Int {
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path(segments[0]))))
        return try SpoolHeader.decode(bytes, .records).length
    }
}
