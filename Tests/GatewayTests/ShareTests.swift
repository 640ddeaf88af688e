import LinuxSystem
import Testing

@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import TestSupport

@Suite("Shares of a queue")
struct ShareTests {
    private static let (flood, honest) = (ShareKey(tenant: "flood"), ShareKey(tenant: "honest"))

    @Test("A key is the same in every process, and differs for other names and kinds")
    func keys() {
        // The first 31 bits of the digest: printf 'tmobile' | sha256sum
        #expect(ShareKey(tenant: "mobile").rawValue == 0x0D4C_F6B3)
        let keys = [ShareKey(tenant: ""), ShareKey(tenant: "a"), ShareKey(tenant: "b"), ShareKey(peer: .local), .unknown]
        #expect(Set(keys).count == keys.count)
        #expect(keys.allSatisfy { $0.rawValue >> UInt32(ShareKey.bitWidth) == 0 })
    }

    @Test("A table by shares holds what a dictionary holds, with none, one and several shares", arguments: 1...4)
    func table(shares: UInt32) {
        var (table, expected) = (ShareKey.Table<Int>(), [ShareKey: Int]())
        var random = SeededRandom()
        for step in 0..<2000 {
            let key = ShareKey(rawValue: UInt32(random.below(Int(shares))))
            switch random.below(20) {
            case 0:
                table.removeAll(keepingCapacity: step % 2 == 0)
                expected = [:]
            case 1...9: (table[key], expected[key]) = (nil, nil)
            default: (table[key], expected[key]) = (step, step)
            }
            #expect(Dictionary(uniqueKeysWithValues: table.all.map { ($0.key, $0.value) }) == expected)
            for share in 0...shares { #expect(table[ShareKey(rawValue: share)] == expected[ShareKey(rawValue: share)]) }
        }
    }

    @Test("An index entry keeps its share, and its copy flag stays in the same bit")
    func index() throws {
        for isCopy in [false, true] {
            var entry = IndexEntry(offset: 64, length: 100, sequence: 7, time: 8, receivers: 3, isCopy: isCopy)
            for share in [ShareKey.unknown, Self.flood, ShareKey(rawValue: 1), ShareKey(rawValue: .max >> 1)] {
                entry.share = share
                let bytes = entry.encoded(seed: 5)
                var read: [IndexEntry?] = []
                IndexEntry.decode(bytes, from: 0, seed: 5) { read.append($0) }
                #expect(read == [entry])
                #expect(bytes.count == IndexEntry.size)
                #expect(bytes[32] & 1 == (isCopy ? 1 : 0))
            }
        }
    }

    @Test(
        "A share is under its equal part if it has less than the total divided by the number of shares",
        arguments: [(99, true), (100, false), (101, false)])
    func equalPart(bytes: Int, isUnder: Bool) {
        var usage = ShareUsage()
        #expect(usage.underEqualPart.isEmpty)
        usage.add(Self.honest, bytes: bytes)
        usage.add(Self.flood, bytes: 200 - bytes)
        #expect(usage.underEqualPart.contains(Self.honest) == isUnder)
    }

    // MARK: In memory

    /// Puts profiles of one share into a queue, each with a body of `size`.
    private func fill(_ state: inout Receiver.State, _ share: ShareKey, _ count: Int, body size: Int = 0, _ bounds: QueueConfig) throws {
        for _ in 0..<count { state.accept(try .sample(body: size, share: share), nil, bounds, .at(1)) }
    }

    /// The number of profiles that the honest share and the flood have in the queue.
    private func left(_ state: Receiver.State) -> [Int] { [Self.honest, Self.flood].map { state.shares[$0].profiles } }

    @Test("A share with more than half of a full queue evicts no other share's profiles", arguments: [5, 6, 20])
    func mostProfiles(flooded: Int) throws {
        var state = Receiver.State.working(limit: 1)
        let bounds = QueueConfig(maxProfiles: 10)
        try fill(&state, Self.honest, 4, bounds)
        try fill(&state, Self.flood, flooded, bounds)
        #expect(left(state) == [4, min(flooded, 6)])
        // The flood's own profiles are evicted, although the oldest ones are not the flood's.
        try fill(&state, Self.flood, 3, bounds)
        #expect(left(state)[0] == 4)
        #expect(state.queuedCount <= 10)
    }

    @Test("A share with half of a full queue or less evicts the oldest profiles", arguments: [(5, [4, 6]), (4, [4, 6])])
    func halfOfProfiles(own: Int, expected: [Int]) throws {
        var state = Receiver.State.working(limit: 1)
        let bounds = QueueConfig(maxProfiles: 10)
        try fill(&state, Self.honest, 10 - own, bounds)
        try fill(&state, Self.flood, own, bounds)
        try fill(&state, Self.flood, 20, bounds)
        #expect(left(state) == expected)
    }

    @Test(
        "A share with more than half of the bytes evicts no other share's profiles, also at the bound",
        arguments: [(-2, [2, 3]), (0, [2, 4]), (2, [2, 4])])
    func mostBytes(more: Int, expected: [Int]) throws {
        var state = Receiver.State.working(limit: 1)
        var bounds = QueueConfig()
        bounds.maxBytes = try 6 * (ReceivedProfile.emptyCost + 100) + more
        try fill(&state, Self.honest, 3, body: 100, bounds)
        try fill(&state, Self.flood, 9, body: 100, bounds)
        #expect(left(state) == expected)
    }

    @Test("A share that is alone keeps its newest profiles, and a smaller share's new profile evicts its oldest")
    func alone() throws {
        var state = Receiver.State.working(limit: 1)
        let bounds = QueueConfig(maxProfiles: 10)
        try fill(&state, Self.flood, 25, bounds)
        #expect(left(state) == [0, 10])
        #expect(state.account.dropped == [.queueFull: 15])
        let newest = state.queue.newest(1).map { state.queue[$0].sequence }
        try fill(&state, Self.honest, 1, bounds)
        #expect(left(state) == [1, 9])
        #expect(state.queue.newest(2).map { state.queue[$0].sequence }.first == newest.first)
    }

    // MARK: Turns

    /// The shares of the next profiles in order, each of which is settled at once.
    private func turns(_ queue: inout ReceiverQueue, _ count: Int) -> [ShareKey] {
        (0..<count).compactMap { _ in
            guard let handle = queue.nextReady() else { return nil }
            let share = queue[handle].share
            queue.open(handle)
            queue.remove(handle)
            return share
        }
    }

    @Test("Shares take turns with profiles that were never tried, however many each share has")
    func lanes() throws {
        let third = ShareKey(tenant: "third")
        var queue = ReceiverQueue()
        for _ in 0..<6 { queue.append(try .sample(share: Self.flood), now: .at(1)) }
        queue.append(try .sample(share: Self.honest), now: .at(1))
        queue.append(try .sample(share: third), now: .at(1))
        #expect(turns(&queue, 2) == [Self.flood, Self.honest])
        queue.append(try .sample(share: Self.honest), now: .at(1))
        #expect(turns(&queue, 4) == [third, Self.flood, Self.honest, Self.flood])
        #expect(turns(&queue, 9) == [Self.flood, Self.flood, Self.flood])
        queue.append(try .sample(share: Self.honest), now: .at(1))
        #expect(turns(&queue, 9) == [Self.honest])
    }

    @Test("A share whose profiles are removed or put back costs no other share a turn")
    func lanesThatEmpty() throws {
        var queue = ReceiverQueue()
        for share in [Self.flood, Self.honest, Self.flood, Self.honest] { queue.append(try .sample(share: share), now: .at(1)) }
        for handle in queue.handles where queue[handle].share == Self.flood { queue.remove(handle) }
        #expect(turns(&queue, 1) == [Self.honest])
        // The newest profile is opened out of turn, like a probe.
        for share in [Self.flood, Self.flood] { queue.append(try .sample(share: share), now: .at(1)) }
        let newest = try #require(queue.newestFresh)
        queue.open(newest)
        queue.putBack(newest)
        #expect(turns(&queue, 9).count == 3)
        #expect(queue.count == 0)
    }

    // MARK: On disk

    private static let small = SpoolConfig(maxBytes: 1 << 20, minFreeBytes: 0, sync: .never, segmentBytes: 64 << 10)

    /// Fills the spool, and returns the number of the honest share's profiles and of dropped ones.
    private func flooded(_ spool: SpoolFixture, restart: Bool) throws -> [Int] {
        try spool.submit(20, body: 1000, share: Self.honest)
        // The honest share's profiles lie before the flood's and among them.
        for _ in 0..<20 {
            try spool.submit(100, body: 1000, share: Self.flood)
            try spool.submit(1, body: 1000, share: Self.honest)
        }
        if restart { try spool.restart() }
        try spool.submit(500, body: 1000, share: Self.flood)
        return [spool.receivers[0].state.withLock { $0.shares[Self.honest].profiles }, spool.account().dropped[.spoolFull] ?? 0]
    }

    @Test("A full spool drops only profiles of the flood, also after a restart", arguments: [false, true])
    func spool(restart: Bool) throws {
        let spool = try SpoolFixture(SpoolFixture.receiver("a"), spool: Self.small)
        let result = try flooded(spool, restart: restart)
        #expect(result[0] == 40)
        #expect(result[1] >= 400)
        #expect(try #require(spool.spool).size.bytes <= 1 << 20)
        #expect(spool.isBalanced())
        let delivered = try spool.deliverAll()
        #expect(delivered.count == Set(delivered).count)
        #expect(spool.isBalanced())
    }

    @Test("A full spool without a flood drops the oldest profiles of all shares")
    func oldestGo() throws {
        let spool = try SpoolFixture(SpoolFixture.receiver("a"), spool: Self.small)
        for number in 0..<1500 { try spool.submit(1, body: 1000, share: number % 2 == 0 ? Self.flood : Self.honest) }
        let shares = spool.receivers[0].state.withLock { $0.shares }
        #expect(abs(shares[Self.flood].profiles - shares[Self.honest].profiles) < 150)
        #expect(try #require(spool.spool).size.bytes <= 1 << 20)
        #expect(spool.isBalanced())
    }
}
