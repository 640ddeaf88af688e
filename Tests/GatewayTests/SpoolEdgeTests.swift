import Foundation
import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

@Suite("Edge cases of the spool")
struct SpoolEdgeTests {
    private static var up: ReceiverConfig { SpoolFixture.receiver("up") }
    private static let roomy = SpoolConfig(minFreeBytes: 0, segmentBytes: 8 << 20)

    @Test("No profile behind the cursor is lost when another one is refused")
    func refusedBehindCursor() throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 4 << 20)
        let spool = try SpoolFixture(SpoolFixture.receiver("up", queue), spool: Self.roomy)
        try spool.submit(Backlog.mostEntries + 600, body: 10)
        var delivered: [UInt64] = []
        while delivered.count < Backlog.mostEntries - 200 {
            let opened = try spool.open(64)
            delivered += opened.map(\.sequence)
            spool.settle(opened)
        }
        try spool.submit(2, body: 5 << 20)
        try spool.submit(10, body: 10)
        delivered += try spool.deliverAll()
        #expect(Set(delivered).count == Backlog.mostEntries + 610 && delivered.count == Backlog.mostEntries + 610)
        #expect(spool.account().dropped == [.tooLarge: 2])
        #expect(spool.isBalanced())
    }

    @Test("A refused profile does not bring back delivered ones when the queue fills again")
    func refusedLongAgo() throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 4 << 20)
        let spool = try SpoolFixture(SpoolFixture.receiver("up", queue), spool: Self.roomy)
        var delivered: [UInt64] = []
        try spool.submit(Backlog.mostEntries + 10, body: 10)
        try spool.submit(1, body: 5 << 20)
        delivered += try spool.deliverAll()
        try spool.submit(Backlog.mostEntries + 200, body: 10)
        delivered += try spool.deliverAll()
        #expect(delivered.count == 2 * Backlog.mostEntries + 210 && Set(delivered).count == delivered.count)
    }

    @Test("Profiles that wait to be dead letters hold no more memory than open deliveries may")
    func lettersInMemory() throws {
        let spool = try SpoolFixture(Self.up, spool: SpoolConfig(minFreeBytes: 0))
        spool.receivers[0].state.withLock { $0.keepsDeadLetters = true }
        try spool.submit(100, body: 1 << 20)
        var peak = 0
        while let opened = try spool.open(1).first {
            let receiver = spool.receivers[0]
            receiver.state.withLock { state in
                _ = state.finish(opened.token, DeliveryOutcome(status: .rejected, reason: "no"), state.config, .now)
                peak = max(peak, state.backlog?.resident ?? 0)
            }
        }
        #expect(peak <= Backlog.openBytes)
    }

    @Test("Dead letters that could not be written, and are tried again together, hold no more memory either")
    func lettersAgain() throws {
        let spool = try SpoolFixture(Self.up, spool: SpoolConfig(minFreeBytes: 0))
        let receiver = spool.receivers[0]
        receiver.state.withLock { $0.keepsDeadLetters = true }
        try spool.submit(60, body: 1 << 20)
        while let opened = try spool.open(1).first {
            receiver.state.withLock { state in
                let ended = state.finish(opened.token, DeliveryOutcome(status: .rejected, reason: "no"), state.config, .now)
                for case .gaveUp(_, let handle, _, _) in ended?.events ?? [] {
                    state.buried(handle, SystemError("write", code: EACCES), state.config.retry, now: .now)
                }
            }
        }
        receiver.state.withLock { state in
            #expect(state.backlog?.resident == 0)
            state.queue.wakeAll()
            while case .done(.bury) = state.nextStep(state.config, now: .now) {}
            #expect(state.burying == 15 && state.backlog?.resident ?? 0 <= Backlog.openBytes)
            // One may always be read.
            state.burying = 0
            if case .done(.bury) = state.nextStep(state.config, now: .now) {} else { Issue.record("no letter is read") }
        }
    }

    @Test("A request larger than spool.max_bytes evicts no profile")
    func tooLargeForSpool() throws {
        let spool = try SpoolFixture(Self.up, spool: SpoolConfig(maxBytes: 4 << 20, minFreeBytes: 0, segmentBytes: 256 << 10))
        try spool.submit(20, body: 100_000)
        try spool.submit(1, body: 5 << 20)
        #expect(spool.queued() == 20)
        #expect(spool.account().dropped == [.spoolFull: 1])
    }

    @Test("No profile is evicted if no eviction could free enough of the disk")
    func hopelessEviction() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(100, body: 1000)
        try spool.restart(spool: SpoolConfig(minFreeBytes: 1 << 60, segmentBytes: 64 << 10))
        try spool.submit(1)
        #expect(spool.queued() == 100)
        #expect(spool.account().dropped == [.spoolFull: 1])
    }

    @Test("Senders that wait for deliveries behind the cursor are answered 504 when they are too many", arguments: [-1, 0, 1])
    func tooManyWaiting(beyond: Int) throws {
        let spool = try SpoolFixture(Self.up)
        let most = 500
        spool.receivers[0].state.withLock { state in
            #expect(state.backlog?.mostWaiting == 65_536)
            state.backlog?.mostWaiting = most
        }
        try spool.submit(Backlog.mostEntries, body: 1)
        let fanOut = FanOut(receivers: spool.receivers, spool: spool.spool)
        let answers = Monitor<[Acknowledgement.Failure?]>([])
        for count in [most + beyond - 1, 1] {
            let profiles = try (0..<count).map { _ in try ReceivedProfile.sample(body: 1) }
            #expect(fanOut.submit(profiles, answer: { answer in answers.withLock { $0.append(answer) } }) == .pending)
        }
        spool.spool?.flush()
        let told = Acknowledgement.Failure(receiver: "up", settlement: .staysQueued)
        #expect(answers.withLock { $0 } == (beyond > 0 ? [told, told] : []))
        #expect(try spool.deliverAll().count == Backlog.mostEntries + most + beyond)
        #expect(answers.withLock { $0 } == (beyond > 0 ? [told, told] : [nil, nil]))
    }

    @Test("Nothing is evicted or copied forward when open profiles leave no room")
    func openEviction() throws {
        let spool = try SpoolFixture(Self.up, spool: SpoolConfig(maxBytes: 1 << 20, minFreeBytes: 0, segmentBytes: 64 << 10))
        try spool.submit(12, body: 60_000)
        #expect(try spool.open(12).count == 12)
        try spool.submit(4, body: 60_000)
        let before = spool.segments
        try spool.submit(1, body: 400_000)
        #expect(spool.account().dropped == [.spoolFull: 1])
        #expect(spool.queued() == 16 && spool.segments == before)
    }

    @Test("A profile larger than spool.max_bytes is dropped and not refused, so that no sender repeats it")
    func tooLarge() throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, onFull: .reject)
        let config = SpoolConfig(maxBytes: 1 << 20, minFreeBytes: 0, segmentBytes: 64 << 10)
        let spool = try SpoolFixture(SpoolFixture.receiver("strict", queue), Self.up, spool: config)
        try spool.submit(1, to: [0])
        #expect(try spool.submit(1, body: 1 << 20, to: [1]) == [.accepted])
        #expect(spool.account(1).dropped == [.spoolFull: 1])
    }

    @Test("The texts that the series of a Push share are written up to 16 MiB, and not a byte more", arguments: [-1, 0, 1])
    func repetitive(beyond: Int) throws {
        let spool = try SpoolFixture(Self.up)
        var content = ProfileContent(api: .push, receivedAt: 1, path: "/push", format: .pprof, samples: [])
        let fixed = ReceivedProfile(content, body: ByteBuffer()).byteCount
        content.query = String(repeating: "q", count: SpoolAppend.mostRepeated / 16 - fixed)
        let head = ReceivedProfile(content, body: ByteBuffer())
        var profiles = (0..<16).map { _ in ReceivedProfile(content, body: ByteBuffer(), sharing: head) }
        if beyond < 0 { profiles.removeLast() }
        if beyond > 0 { profiles.append(ReceivedProfile(content, body: ByteBuffer(), sharing: head)) }
        let fanOut = FanOut(receivers: spool.receivers, spool: spool.spool)
        #expect(fanOut.submit(profiles) == (beyond > 0 ? .refused(.repetitive) : .pending))
        spool.spool?.flush()
        #expect(try spool.deliverAll().count == (beyond > 0 ? 0 : profiles.count))
    }

    @Test("Requests are in different segments if they have more receivers together than a segment can name")
    func manyReceivers() throws {
        let configs = (0..<40).map { SpoolFixture.receiver("r\($0)") }
        let others = (40..<80).map { SpoolFixture.receiver("r\($0)") }
        let spool = try SpoolFixture(configs + others)
        try {
            let fanOuts = [0..<40, 40..<80].map { FanOut(receivers: Array(spool.receivers[$0]), spool: spool.spool) }
            for fanOut in (0..<50).flatMap({ _ in fanOuts }) { _ = fanOut.submit([try .sample(body: 10)]) }
            spool.spool?.flush()
        }()
        try spool.restart()
        #expect((0..<80).allSatisfy { spool.account($0).recovered == 50 })
    }

    @Test("A copy whose original reappears counts once, even if a full disk prevents a note of that")
    func unnotedCopy() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(50, body: 1000)
        let kept = try #require(try spool.open(1).first).sequence
        let rest = try spool.deliverAll()
        let saved = try spool.files.filter { $0.hasPrefix("0000000000000001") }.map {
            ($0, try Data(contentsOf: URL(fileURLWithPath: spool.path($0))))
        }
        while spool.segments.first?.hasPrefix("0000000000000001") == true { try spool.submit(5, body: 1000) }
        let waiting = spool.queued()
        try spool.restart {
            for (name, bytes) in saved { try bytes.write(to: URL(fileURLWithPath: spool.path(name))) }
            for name in spool.segments.dropFirst() {
                // A folder of that name prevents writes, like a full disk.
                let settled = spool.path(name.replacingOccurrences(of: ".records", with: ".settled"))
                try? FileManager.default.removeItem(atPath: settled)
                try FileManager.default.createDirectory(atPath: settled, withIntermediateDirectories: true)
            }
        }
        let delivered = try spool.deliverAll()
        #expect(rest.count == 49 && delivered.contains(kept))
        #expect(delivered.count == waiting && Set(delivered).count == waiting)
    }

    @Test("The number of a segment whose removal is not finished is not used again")
    func unfinishedRemoval() throws {
        let spool = try SpoolFixture(Self.up)
        try spool.restart {
            // A folder of that name cannot be unlinked.
            try FileManager.default.createDirectory(atPath: spool.path("0000000000000005.records.tmp"), withIntermediateDirectories: true)
        }
        try spool.submit(1)
        #expect(spool.segments == ["0000000000000006.records"])
    }

    @Test("A receiver that rejects and is not required refuses no request when the spool is full")
    func optionalReject() throws {
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, onFull: .reject)
        let optional = ReceiverConfig(name: "optional", required: false, queue: queue)
        let spool = try SpoolFixture(
            Self.up, optional, spool: SpoolConfig(maxBytes: 1 << 20, minFreeBytes: 0, segmentBytes: 64 << 10))
        for _ in 0..<20 {
            #expect(try spool.submit(5, body: 20_000).allSatisfy { $0 == .accepted })
            try spool.deliverAll()
        }
        #expect((spool.account(1).dropped[.spoolFull] ?? 0) > 0)
    }

    @Test("An expired backlog is dropped in pieces, so that the lock is not held for long")
    func oldBacklog() throws {
        let spool = try SpoolFixture(Self.up, spool: Self.roomy)
        try spool.submit(3000, body: 10)
        let queue = QueueConfig(storage: .disk, maxBytes: 1 << 30, maxAge: .nanoseconds(1))
        try spool.restart([SpoolFixture.receiver("up", queue)])
        let receiver = spool.receivers[0]
        var left: [Int] = []
        while spool.queued() > 0, left.count < 20 {
            _ = spool.pass(receiver)
            left.append(spool.queued())
        }
        #expect(left.count > 2 && left.last == 0)
        #expect(spool.account().dropped == [.maxAge: 3000])
    }

    @Test("Damaged headers in all three files do not apply one receiver's settled entries to another")
    func allHeads() throws {
        let configs = ["zeta", "alpha"].map { SpoolFixture.receiver($0) }
        let spool = try SpoolFixture(configs[0], configs[1])
        try spool.submit(10)
        try spool.deliverAll(at: 0)
        try spool.restart {
            for file in spool.files {
                let handle = try FileHandle(forUpdating: URL(fileURLWithPath: spool.path(file)))
                try handle.write(contentsOf: Data(repeating: 0, count: 16))
            }
        }
        #expect(spool.account(1).recovered == 10)
        try spool.restart()
        #expect(try spool.deliverAll(at: 1).count == 10)
    }

    @Test("Forged values do not prevent a start", arguments: ["number", "name", "time", "length", "hole"])
    func hostile(kind: String) throws {
        let spool = try SpoolFixture(Self.up)
        try spool.submit(3)
        try spool.restart { try forge(kind, spool) }
        try spool.deliverAll()
        #expect(spool.isBalanced())
    }

    /// Writes a forged value of this kind into the spool's files.
    private func forge(_ kind: String, _ spool: SpoolFixture) throws {
        let records = spool.path(spool.segments[0])
        let index = records.replacingOccurrences(of: ".records", with: ".index")
        switch kind {
        case "number": try Data([1, 2, 3]).write(to: URL(fileURLWithPath: spool.path("ffffffffffffffff.records")))
        case "name":
            // The last record's receiver is not UTF-8, and the file ends after the record's head.
            var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: records)))
            let magic = Array("GWRC".utf8)
            let last = try #require((0..<(bytes.count - 4)).last { Array(bytes[$0..<($0 + 4)]) == magic })
            let name = last + SpoolRecord.fixedSize + 4
            for place in name..<(name + 2) { bytes[place] = 0xFF }
            try Data(bytes[..<(name + 2)]).write(to: URL(fileURLWithPath: records))
            try FileManager.default.removeItem(atPath: index)
        case "time": try changeLastEntry(index) { $0.time = .min }
        case "length": try changeLastEntry(index) { $0.length = .max }
        default: #expect(truncate(records, 4 << 30 + 1 << 20) == 0)
        }
    }

    /// Changes the last entry of an index file.
    private func changeLastEntry(_ path: String, _ change: (inout IndexEntry) -> Void) throws {
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let (header, length) = try SpoolHeader.decode(bytes, .index)
        var entries: [IndexEntry] = []
        IndexEntry.decode(bytes, from: length, seed: header.seed) { if let entry = $0 { entries.append(entry) } }
        change(&entries[entries.count - 1])
        try Data(bytes[..<length] + entries.flatMap { $0.encoded(seed: header.seed) }).write(to: URL(fileURLWithPath: path))
    }

    @Test("The spool starts with randomly damaged files, its accounts balance, and nothing is delivered twice")
    func fuzz() throws {
        var random = SeededRandom()
        let configs = ["zeta", "alpha"].map { SpoolFixture.receiver($0) }
        let spool = try SpoolFixture(configs[0], configs[1])
        var sent: Set<UInt64> = []
        try spool.submit(150, body: 800)
        for index in 0..<2 {
            let opened = try spool.open(60, at: index)
            sent.formUnion(opened.map(\.sequence))
            spool.settle(Array(opened.dropFirst(3)), at: index)
        }
        try spool.restart()
        let source = try spool.files.map { ($0, Array(try Data(contentsOf: URL(fileURLWithPath: spool.path($0))))) }
        for round in 0..<150 {
            try spool.restart {
                try FileManager.default.removeItem(atPath: spool.folder)
                try FileManager.default.createDirectory(atPath: spool.folder + "/spool", withIntermediateDirectories: true)
                for (name, bytes) in source {
                    var bytes = bytes
                    if random.below(3) == 0 { Self.damage(&bytes, &random) }
                    try Data(bytes).write(to: URL(fileURLWithPath: spool.path(name)))
                }
            }
            for index in 0..<2 {
                let delivered = try spool.deliverAll(at: index)
                #expect(Set(delivered).count == delivered.count, "round \(round): twice from one start")
                #expect(spool.isBalanced(index) && spool.queued(index) == 0, "round \(round)")
            }
            #expect(try #require(spool.spool).state.withLock { $0.segments.values.allSatisfy { $0.live.allSatisfy { $0 == 0 } } })
        }
    }

    /// Flips, cuts off, overwrites, repeats or removes random bytes.
    private static func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        let at = random.below(4) == 0 ? random.below(min(bytes.count, 200)) : random.below(bytes.count)
        switch random.below(6) {
        case 0: bytes[at] ^= 1 << UInt8(random.below(8))
        case 1: bytes = Array(bytes[..<at])
        case 2: for place in at..<min(bytes.count, at + 1 + random.below(600)) { bytes[place] = 0 }
        case 3: for place in at..<min(bytes.count, at + 1 + random.below(60)) { bytes[place] = 0xFF }
        case 4: bytes += bytes[at...]
        default: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(100)))
        }
    }
}
