import LinuxSystem
import Testing

@testable import Gateway

@Suite("A receiver's pace")
final class PaceTests {
    private static let policy = RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: 0)
    private var pace = Pace(limit: 10)

    /// A retry of one profile, with nothing else open.
    private func retry(_ sequence: UInt64, open: Int = 0, notBefore: MonotonicTime = .at(0), now: MonotonicTime = .at(100)) -> Bool {
        pace.sawRetry(of: sequence, notBefore: notBefore, open: open, policy: Self.policy, now: now)
    }

    private func live() -> Bool { pace.sawLife() }

    private func fail() { for sequence: UInt64 in 1...5 { _ = retry(sequence) } }

    /// How many deliveries may be open at a time.
    private func window(now: MonotonicTime = .at(1000)) -> Int { (0...20).prefix { pace.allows(open: $0, now: now) }.count }

    @Test("A new receiver may open its limit")
    func fresh() {
        #expect(window() == 10)
        #expect(!pace.isFailing)
    }

    @Test("The fifth different profile in a row makes it failing, and is the only one to say so")
    func failing() {
        #expect((1...4).map { retry($0) } == [false, false, false, false])
        #expect(!pace.isFailing && window() == 10)
        #expect(retry(5) == true)
        #expect(pace.isFailing)
        #expect(retry(6) == false)
    }

    @Test("One profile that comes back again and again does not make it failing")
    func sameProfile() {
        for _ in 0..<20 { #expect(!retry(7)) }
        #expect(!pace.isFailing && window() == 10)
    }

    @Test("Any sign of life begins the count anew")
    func life() {
        for sequence: UInt64 in 1...4 { _ = retry(sequence) }
        #expect(live() == false)
        for sequence: UInt64 in 5...8 { #expect(!retry(sequence)) }
        #expect(retry(9))
    }

    @Test("While failing one delivery at a time probes, not before its time")
    func probes() {
        fail()
        #expect(pace.nextProbe == .at(101))
        #expect(window(now: MonotonicTime(nanoseconds: 100_999_999_999)) == 0)
        #expect(window(now: .at(101)) == 1)
    }

    @Test("A probe waits for what the destination asks")
    func retryAfter() {
        fail()
        _ = retry(6, notBefore: .at(500))
        #expect(pace.nextProbe == .at(500))
        _ = retry(7, now: .at(200))
        #expect(pace.nextProbe == .at(500))
    }

    @Test("Probes that fail wait longer each time, and what comes back in a bunch is one failure")
    func backoff() {
        let doubling = RetryPolicy(minimum: .seconds(1), maximum: .seconds(1000), retries: 0)
        func wait(_ pace: inout Pace, open: Int) -> Int64 {
            _ = pace.sawRetry(of: 9, notBefore: .at(0), open: open, policy: doubling, now: .at(0))
            return pace.nextProbe.nanoseconds
        }
        fail()
        pace = Pace(limit: 10)
        for sequence: UInt64 in 1...4 { _ = retry(sequence, now: .at(-1000)) }
        for open in [9, 8, 7] { #expect(wait(&pace, open: open) <= MonotonicTime.at(2).nanoseconds) }
        var last: Int64 = 0
        for failures in 1...6 {
            let next = wait(&pace, open: 0)
            #expect(next >= last && next <= MonotonicTime.at(1 << Int64(failures)).nanoseconds)
            last = next
        }
        #expect(last >= MonotonicTime.at(32).nanoseconds)
    }

    @Test("After the failing it opens 1, 2, 4, 8 and then its limit")
    func doubling() {
        fail()
        #expect(live() == true)
        var windows = [window()]
        for _ in 0..<5 {
            #expect(live() == false)
            windows.append(window())
        }
        #expect(windows == [1, 2, 4, 8, 10, 10])
    }

    @Test("What a destination asked for before it recovered does not hold the probes of its next failing")
    func staleProbeTime() {
        fail()
        _ = retry(6, notBefore: .at(5000))
        _ = live()
        fail()
        #expect(pace.nextProbe == .at(101))
    }

    @Test("A receiver that fails again while it recovers needs five profiles again")
    func again() {
        fail()
        _ = live()
        for sequence: UInt64 in 1...4 { #expect(!retry(sequence)) }
        #expect(window() == 1)
        #expect(retry(5))
    }
}
