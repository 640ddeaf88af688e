import LinuxSystem
import Testing

@testable import HTTPServer

@Suite("Memory for request heads and handshakes")
struct BeginningsTests {
    @Test(
        "Heads and handshakes may each hold an eighth of the limit, at least 1 MiB", arguments: [(80 << 20, 10 << 20), (1 << 20, 1 << 20)])
    func share(limit: Int, share: Int) {
        let budget = BodyBudget(limit: limit)
        for kind in [BodyBudget.Beginning.head, .handshake] {
            #expect(budget.reserve(share - 1, for: kind))
            #expect(budget.reserve(1, for: kind))
            #expect(!budget.reserve(1, for: kind))
            budget.release(1, of: kind)
            #expect(budget.reserve(1, for: kind))
        }
    }

    @Test("Heads and handshakes take room from bodies, and give all of it back")
    func together() {
        let budget = BodyBudget(limit: 2 << 20)
        #expect(budget.reserve(1 << 20, for: .head) && budget.reserve(1 << 20, for: .handshake))
        #expect(!budget.hasRoom)
        budget.release(1 << 20, of: .head)
        budget.add(1 << 21, for: .handshake)
        #expect(!budget.hasRoom && !budget.reserve(1, for: .handshake))
        budget.release(3 << 20, of: .handshake)
        #expect(budget.hasRoom && budget.reserve(1 << 20, for: .handshake))
    }
}

@Suite("The order of handshakes")
struct HandshakesTests {
    private func key(_ number: Int) -> ConnectionKey { ConnectionKey(loop: 1, generation: 1, slot: number) }

    private let one = PeerAddress(text: "192.0.2.1")
    private let other = PeerAddress(text: "192.0.2.2")

    @Test("Addresses take turns, and the handshakes of one address continue first come, first served")
    func turns() {
        let handshakes = Handshakes()
        #expect(!handshakes.areDue && handshakes.takeDue() == nil)
        for number in [3, 1, 2] { handshakes.append(key(number), from: one) }
        handshakes.append(key(9), from: other)
        #expect(handshakes.areDue)
        #expect((0..<4).map { _ in handshakes.takeDue() } == [key(3), key(9), key(1), key(2)])
        #expect(!handshakes.areDue && handshakes.takeDue() == nil)
    }

    @Test("The oldest unfinished handshake of the address that has the most makes room")
    func oldest() {
        let handshakes = Handshakes()
        handshakes.began(key(9), from: other) { _ in true }
        for number in 0..<5 { handshakes.began(key(number), from: one) { _ in true } }
        handshakes.began(key(8), from: other) { _ in true }
        #expect(handshakes.takeOldest { $0 != key(0) && $0 != key(1) } == key(2))
        // Each address has two left.
        #expect(handshakes.takeOldest { _ in true } == key(9))
        #expect(handshakes.takeOldest { _ in true } == key(3))
        handshakes.began(key(7), from: one) { _ in false }
        #expect(handshakes.takeOldest { $0 == key(7) } == key(7))
        #expect(handshakes.takeOldest { _ in true } == nil)
    }
}
