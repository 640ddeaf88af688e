import LinuxSystem
import Testing

@testable import HTTPServer

@Suite("Memory for bodies that are being received")
struct BodyBudgetTests {
    /// A body that is being received, with the accounts of its sender.
    private struct Body {
        let key: ConnectionKey
        let senders: [BodyBudget.Sender]
    }

    private let budget = BodyBudget(limit: 1000, share: 250)

    /// Begins a body of these senders that holds this many bytes already.
    private func body(_ number: UInt64, _ names: BodySender..., holding bytes: Int = 0) -> Body {
        let body = Body(key: ConnectionKey(rawValue: number), senders: budget.join(names))
        budget.add(bytes, body.senders)
        return body
    }

    private func allows(_ body: Body) -> Bool { budget.allows(body.key, body.senders) }

    /// Ends a body and releases the bytes that it holds.
    private func end(_ body: Body, holding bytes: Int) {
        budget.release(bytes, body.senders, body.key)
        budget.leave(body.senders)
    }

    @Test(
        "A sender beyond its share stops at the last part of the limit, which is reserved for others",
        arguments: [(749, true), (750, false), (751, false)])
    func lastPart(held: Int, isAllowed: Bool) {
        _ = body(1, .tenant("hog"), holding: held)
        // One body of the sender still has its turn.
        #expect(allows(body(2, .tenant("hog"))))
        #expect(allows(body(3, .tenant("hog"))) == isAllowed)
        #expect(allows(body(4, .tenant("other"))))
        #expect(allows(body(5, .tenant("other"))))
    }

    @Test("A sender may use the last part of the limit up to its share", arguments: [(249, true), (250, false), (251, false)])
    func ownShare(held: Int, isAllowed: Bool) {
        _ = body(1, .tenant("hog"), holding: 745)
        _ = body(2, .tenant("other"), holding: held - 100)
        let second = body(3, .tenant("other"), holding: 100)
        // The hog takes the turn of senders beyond their share.
        #expect(allows(body(4, .tenant("hog"))))
        #expect(allows(second) == (isAllowed))
    }

    @Test("A sender's only body may be larger than a share while there is room", arguments: [(999, true), (1000, false)])
    func singleBody(held: Int, isAllowed: Bool) {
        let first = body(1, .tenant("large"), holding: held)
        #expect(allows(body(2, .tenant("other"))))
        if !isAllowed {
            // Without room only one body goes on, which is the second one here.
            #expect(!allows(first))
        } else {
            #expect(allows(first))
        }
    }

    @Test("One body at a time goes on beyond the limit, and the next one follows when it ends")
    func turn() {
        let full = body(1, .tenant("a"), holding: 1000)
        let (second, third) = (body(2, .tenant("b")), body(3, .tenant("c")))
        #expect(allows(second))
        #expect(!allows(third))
        #expect(allows(second))
        end(second, holding: 0)
        #expect(allows(third))
        end(full, holding: 1000)
        #expect(allows(body(4, .tenant("d"))))
    }

    @Test("Senders within and beyond their share have separate turns, and a sender has one turn at a time")
    func turnsOfBoth() {
        let hogs = (1...4).map { body($0, .tenant("hog"), holding: 250) }
        #expect(allows(hogs[0]))
        #expect(!allows(hogs[1]))
        let (good, again) = (body(8, .tenant("good")), body(9, .tenant("good")))
        #expect(allows(good))
        #expect(!allows(again), "it has a turn")
        #expect(!allows(body(10, .tenant("third"))))
        end(good, holding: 0)
        #expect(allows(again))
        end(hogs[0], holding: 250)
        #expect(allows(hogs[1]))
    }

    @Test("A body keeps its turn when its sender gets beyond its share, or within it again")
    func keptTurn() {
        let others = (1...3).map { body($0, .tenant("other\($0)"), holding: 260) }
        let (first, second) = (body(8, .tenant("t"), holding: 200), body(9, .tenant("t"), holding: 20))
        #expect(allows(first))
        budget.add(100, first.senders)
        #expect(allows(first), "beyond its share now, with the turn of those within theirs")
        #expect(!allows(second))
        #expect(!allows(others[0]))
        end(first, holding: 300)
        budget.add(240, second.senders)
        let third = body(10, .tenant("t"))
        #expect(allows(third))
        end(second, holding: 260)
        budget.add(300, others[0].senders)
        #expect(allows(third), "within its share now, with the turn of those beyond theirs")
    }

    @Test("Tenant names that one address invents do not raise its share, and the only address has all of the memory")
    func peers() {
        let (crowd, guest) = (BodySender.peer(.local), BodySender.peer(PeerAddress.example))
        for number in 0..<8 { _ = body(UInt64(number + 1), .tenant("t\(number)"), crowd, holding: 100) }
        #expect(allows(body(20, .tenant("new"), crowd)), "behind one proxy, tenants share")
        let other = body(21, .tenant("new"), guest)
        #expect(allows(other))
        #expect(allows(body(22, .tenant("t9"), crowd)), "its turn")
        #expect(!allows(body(23, .tenant("t10"), crowd)))
        end(other, holding: 0)
        #expect(allows(body(24, .tenant("t11"), crowd)))
    }

    @Test("Bytes without a sender count only towards the limit")
    func nobody() {
        #expect(budget.join([]).isEmpty)
        budget.add(1000)
        #expect(!budget.hasRoom)
        budget.release(1)
        #expect(budget.hasRoom)
    }

    // MARK: Pace

    private func isTooSlow(_ pace: inout BodyRate, _ now: MonotonicTime, _ bytes: Int, rate: Int) -> Bool {
        pace.isTooSlow(now, bytes: bytes, rate: rate)
    }

    private static func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9)) }

    @Test(
        "A body is too slow when fewer bytes than ten times the rate arrive in ten seconds",
        arguments: [(9999, true), (10_000, false), (10_001, false)])
    func pace(bytes: Int, isSlow: Bool) {
        var pace = BodyRate(since: Self.time(100), bytes: 5)
        #expect(!isTooSlow(&pace, Self.time(109.999), 5, rate: 1000))
        #expect(isTooSlow(&pace, Self.time(110), 5 + bytes, rate: 1000) == isSlow)
        #expect(!isTooSlow(&pace, Self.time(110), 5 + bytes, rate: 1000), "the next window has just begun")
    }

    @Test("Bytes from an earlier window do not count, and a rate of 0 is no bound")
    func windows() {
        var pace = BodyRate(since: Self.time(0), bytes: 0)
        #expect(!isTooSlow(&pace, Self.time(10), 1 << 30, rate: 1000))
        #expect(isTooSlow(&pace, Self.time(20), 1 << 30 + 9, rate: 1000))
        #expect(!isTooSlow(&pace, Self.time(40), 1 << 30 + 9, rate: 0))
    }
}
