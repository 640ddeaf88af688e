import Testing

@testable import Gateway

@Suite("The room for what begins")
struct BeginningsTests {
    @Test(
        "Heads and handshakes have an eighth of the limit each, but 1 MiB at least", arguments: [(80 << 20, 10 << 20), (1 << 20, 1 << 20)])
    func share(limit: Int, share: Int) {
        let budget = BodyBudget(limit: limit)
        for kind in [BodyBudget.Beginning.head, .handshake] {
            #expect(budget.take(share - 1, for: kind))
            #expect(budget.take(1, for: kind))
            #expect(!budget.take(1, for: kind))
            budget.release(1, of: kind)
            #expect(budget.take(1, for: kind))
        }
    }

    @Test("What begins takes room from bodies, and gives all of it back")
    func together() {
        let budget = BodyBudget(limit: 2 << 20)
        #expect(budget.take(1 << 20, for: .head) && budget.take(1 << 20, for: .handshake))
        #expect(!budget.hasRoom)
        budget.release(1 << 20, of: .head)
        budget.add(1 << 21, for: .handshake)
        #expect(!budget.hasRoom && !budget.take(1, for: .handshake))
        budget.release(3 << 20, of: .handshake)
        #expect(budget.hasRoom && budget.take(1 << 20, for: .handshake))
    }
}

@Suite("Handshakes take turns")
struct HandshakesTests {
    private func key(_ number: Int) -> ConnectionKey { ConnectionKey(loop: 1, generation: 1, slot: number) }

    @Test("Those that can go on do so in the order in which they could")
    func turns() {
        var handshakes = Handshakes()
        #expect(!handshakes.areDue && handshakes.takeDue() == nil)
        for number in [3, 1, 2] { handshakes.append(key(number)) }
        #expect(handshakes.areDue)
        #expect([handshakes.takeDue(), handshakes.takeDue(), handshakes.takeDue()] == [key(3), key(1), key(2)])
        #expect(!handshakes.areDue)
    }

    @Test("The oldest that is still under way makes room")
    func oldest() {
        var handshakes = Handshakes()
        for number in 0..<5 { handshakes.began(key(number)) { _ in true } }
        #expect(handshakes.takeOldest { $0 != key(0) && $0 != key(1) } == key(2))
        #expect(handshakes.takeOldest { _ in true } == key(3))
        handshakes.began(key(9)) { _ in false }
        #expect(handshakes.takeOldest { _ in true } == key(9))
        #expect(handshakes.takeOldest { _ in true } == nil)
    }
}
