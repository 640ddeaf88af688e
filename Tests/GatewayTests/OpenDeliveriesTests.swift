import LinuxSystem
import Testing

@testable import Gateway

@Suite("Open deliveries")
final class OpenDeliveriesTests {
    private var open = OpenDeliveries()

    private func close(_ token: UInt) -> (operation: OpenDeliveries.Operation, openedAt: MonotonicTime)? { open.close(token) }

    private static func handles(_ count: Int) throws -> [ReceiverQueue.Handle] {
        var queue = ReceiverQueue()
        for _ in 0..<count { queue.append(try .sample(), now: .at(1)) }
        return (0..<count).compactMap { _ in queue.open() }
    }

    @Test("A token closes its own delivery once, and a second close is seen")
    func closesOnce() throws {
        let handles = try Self.handles(2)
        let tokens = handles.map { open.open(.delivery($0), now: .at(5)) }
        #expect(tokens[0] != tokens[1] && !tokens.contains(0))
        let closed = try #require(close(tokens[1]))
        guard case .delivery(handles[1]) = closed.operation else {
            Issue.record("another operation: \(closed)")
            return
        }
        #expect(closed.openedAt == .at(5))
        #expect(close(tokens[1]) == nil)
        #expect(close(tokens[0]) != nil)
    }

    @Test("A token from before its place was reused closes nothing")
    func generations() throws {
        let handle = try Self.handles(1)[0]
        var old: [UInt] = []
        for _ in 0..<100 {
            let token = open.open(.delivery(handle), now: .at(1))
            for stale in old { #expect(close(stale) == nil) }
            #expect(open.count == 1)
            #expect(close(token) != nil)
            old.append(token)
        }
        #expect(Set(old).count == 100)
    }

    @Test(
        "A token that was made up closes nothing",
        arguments: [0, 1, 2, 0x1_0000_0000, 0x2_0000_0001, 0x1_0000_0002, UInt.max, UInt(Int.max), 1 << 63])
    func madeUp(token: UInt) throws {
        #expect(close(token) == nil)
        let real = open.open(.delivery(try Self.handles(1)[0]), now: .at(1))
        try #require(real != token)
        #expect(close(token) == nil)
        #expect(close(real) != nil)
    }

    @Test("A flush is open and is no delivery")
    func flush() throws {
        let flush = open.open(.flush, now: .at(1))
        let delivery = open.open(.delivery(try Self.handles(1)[0]), now: .at(2))
        #expect((open.count, open.deliveryCount) == (2, 1))
        guard case .flush = try #require(close(flush)).operation else {
            Issue.record("the flush became a delivery")
            return
        }
        #expect((open.count, open.deliveryCount) == (1, 1))
        #expect(close(delivery) != nil)
        #expect((open.count, open.deliveryCount) == (0, 0))
    }

    @Test("The oldest is the one that was opened first and is still open")
    func oldest() throws {
        #expect(open.oldest == nil)
        let tokens = (1...3).map { open.open(.flush, now: .at($0)) }
        #expect(open.oldest == .at(1))
        #expect(close(tokens[0]) != nil)
        #expect(open.oldest == .at(2))
        _ = open.open(.flush, now: .at(9))
        #expect(open.oldest == .at(2))
    }

    @Test("Random tokens close nothing")
    func garbage() throws {
        var random = SeededRandom()
        let tokens = Set((0..<8).map { _ in open.open(.flush, now: .at(1)) })
        for _ in 0..<5000 {
            let token = UInt(random.next() >> UInt64(random.below(64)))
            if !tokens.contains(token) { #expect(close(token) == nil) }
        }
        #expect(open.count == 8)
    }
}
