import LinuxSystem
import Testing

@testable import Gateway

@Suite("How old a sender's connection may be")
struct ConnectionAgeTests {
    private static func time(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: (5000 + milliseconds) * 1_000_000) }

    @Test("The answer at its end is the last one, and none before", arguments: [(1.0, Int64(1000)), (0.8, 800), (0.9, 900)])
    func end(part: Double, milliseconds: Int64) {
        let age = ConnectionAge(since: Self.time(0), part: part)
        #expect(!age.isOver(.seconds(1), now: Self.time(0)))
        #expect(!age.isOver(.seconds(1), now: Self.time(milliseconds - 1)))
        #expect(age.isOver(.seconds(1), now: Self.time(milliseconds)))
        #expect(age.isOver(.seconds(1), now: Self.time(milliseconds + 1)))
    }

    @Test("Zero is without end, and so is an age that no clock reaches")
    func never() {
        let age = ConnectionAge(since: Self.time(0))
        #expect(!age.isOver(.zero, now: .never))
        #expect(!age.isOver(.nanoseconds(Int64.max), now: Self.time(1 << 40)))
    }

    @Test("A reload's age counts from the connection's beginning")
    func reload() {
        let age = ConnectionAge(since: Self.time(0))
        #expect(!age.isOver(.seconds(100), now: Self.time(50_000)))
        #expect(age.isOver(.seconds(10), now: Self.time(50_000)))
    }

    @Test("Connections that began together do not all end together, and none later than its age")
    func parts() {
        let ages = (0..<100).map { _ in ConnectionAge(since: Self.time(0)) }
        #expect(ages.allSatisfy { !$0.isOver(.seconds(10), now: Self.time(7_999)) && $0.isOver(.seconds(10), now: Self.time(10_000)) })
        #expect(Set(ages.map { $0.isOver(.seconds(10), now: Self.time(9_000)) }) == [true, false])
    }
}
