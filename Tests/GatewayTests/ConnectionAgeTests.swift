import LinuxSystem
import Testing

@testable import HTTPServer

@Suite("The maximum age of a sender's connection")
struct ConnectionAgeTests {
    private static func time(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: (5000 + milliseconds) * 1_000_000) }

    @Test(
        "The first answer at or after the connection's part of the maximum age is the last one",
        arguments: [(1.0, Int64(1000)), (0.8, 800), (0.9, 900)])
    func end(part: Double, milliseconds: Int64) {
        let age = ConnectionAge(since: Self.time(0), part: part)
        #expect(!age.isOver(.seconds(1), now: Self.time(0)))
        #expect(!age.isOver(.seconds(1), now: Self.time(milliseconds - 1)))
        #expect(age.isOver(.seconds(1), now: Self.time(milliseconds)))
        #expect(age.isOver(.seconds(1), now: Self.time(milliseconds + 1)))
    }

    @Test("A maximum age of zero means no limit, and a huge one does not overflow")
    func never() {
        let age = ConnectionAge(since: Self.time(0))
        #expect(!age.isOver(.zero, now: .never))
        #expect(!age.isOver(.nanoseconds(Int64.max), now: Self.time(1 << 40)))
    }

    @Test("A maximum age from a reload counts from the connection's beginning")
    func reload() {
        let age = ConnectionAge(since: Self.time(0))
        #expect(!age.isOver(.seconds(100), now: Self.time(50_000)))
        #expect(age.isOver(.seconds(10), now: Self.time(50_000)))
    }

    @Test("Connections that began together end at different times, and none later than the maximum age")
    func parts() {
        let ages = (0..<100).map { _ in ConnectionAge(since: Self.time(0)) }
        #expect(ages.allSatisfy { !$0.isOver(.seconds(10), now: Self.time(7_999)) && $0.isOver(.seconds(10), now: Self.time(10_000)) })
        #expect(Set(ages.map { $0.isOver(.seconds(10), now: Self.time(9_000)) }) == [true, false])
    }
}
