import LinuxSystem
import Testing

@testable import Receivers
@testable import TestSupport

@Suite("Open deliveries")
final class OpenDeliveriesTests {
    private var open = OpenDeliveries()

    private func close(_ token: UInt) -> OpenDeliveries.Open? { open.close(token) }

    /// Handles of open entries of a queue.
    private static func handles(_ count: Int) throws -> [ReceiverQueue.Handle] {
        var queue = ReceiverQueue()
        for _ in 0..<count { queue.append(try .sample(), now: .at(1)) }
        return (0..<count).compactMap { _ in queue.open() }
    }

    @Test("A token closes its own delivery, and a second close finds nothing")
    func closesOnce() throws {
        let handles = try Self.handles(2)
        let tokens = handles.map { open.open(.delivery($0), by: 0, now: .at(5)) }
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

    @Test("An old token closes nothing after its slot is reused")
    func generations() throws {
        let handle = try Self.handles(1)[0]
        var old: [UInt] = []
        for _ in 0..<100 {
            let token = open.open(.delivery(handle), by: 0, now: .at(1))
            for stale in old { #expect(close(stale) == nil) }
            #expect(open.isOpen(token))
            #expect(close(token) != nil)
            old.append(token)
        }
        #expect(Set(old).count == 100)
    }

    @Test(
        "An invented token closes nothing",
        arguments: [0, 1, 2, 0x1_0000_0000, 0x2_0000_0001, 0x1_0000_0002, UInt.max, UInt(Int.max), 1 << 63])
    func madeUp(token: UInt) throws {
        #expect(close(token) == nil)
        let real = open.open(.delivery(try Self.handles(1)[0]), by: 0, now: .at(1))
        try #require(real != token)
        #expect(close(token) == nil)
        #expect(close(real) != nil)
    }

    @Test("A flush is an open operation, but no delivery")
    func flush() throws {
        let flush = open.open(.flush, by: 0, now: .at(1))
        let delivery = open.open(.delivery(try Self.handles(1)[0]), by: 0, now: .at(2))
        #expect(open.deliveries.count == 1)
        guard case .flush = try #require(close(flush)).operation else {
            Issue.record("the flush became a delivery")
            return
        }
        #expect(!open.isOpen(flush) && open.isOpen(delivery))
        #expect(close(delivery) != nil)
        #expect(open.deliveries.isEmpty)
    }

    @Test("An abandoned instance has no open operations left, and those of another instance stay open")
    func abandoned() throws {
        let handles = try Self.handles(3)
        let tokens = handles.enumerated().map { open.open(.delivery($1), by: $0 % 2, isProbe: $0 == 1, now: .at(1)) }
        #expect(open.abandon(0).count == 2)
        #expect(tokens.map(open.isOpen) == [false, true, false])
        let rest = try #require(close(tokens[1]))
        #expect((rest.instance, rest.isProbe) == (1, true))
    }

    @Test("The oldest time is that of the first opened operation that is still open")
    func oldest() throws {
        #expect(open.oldest(of: 0) == nil)
        let tokens = (1...3).map { open.open(.flush, by: 0, now: .at($0)) }
        #expect(open.oldest(of: 0) == .at(1))
        #expect(close(tokens[0]) != nil)
        #expect(open.oldest(of: 0) == .at(2))
        _ = open.open(.flush, by: 0, now: .at(9))
        _ = open.open(.flush, by: 1, now: .at(0))
        #expect(open.oldest(of: 0) == .at(2))
    }

    @Test("Random tokens close nothing")
    func garbage() throws {
        var random = SeededRandom()
        let tokens = Set((0..<8).map { _ in open.open(.flush, by: 0, now: .at(1)) })
        for _ in 0..<5000 {
            let token = UInt(random.next() >> UInt64(random.below(64)))
            if !tokens.contains(token) { #expect(close(token) == nil) }
        }
        #expect(tokens.allSatisfy(open.isOpen))
    }
}
