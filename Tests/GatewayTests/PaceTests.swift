import LinuxSystem
import Testing

@testable import Gateway

@Suite("A receiver's pace")
final class PaceTests {
    private static let policy = RetryPolicy(minimum: .seconds(1), maximum: .seconds(4), retries: 0)
    private var pace = Pace(limit: 10)

    /// A retry of one profile.
    @discardableResult
    private func retry(_ sequence: UInt64, isEvidence: Bool = true, isProbe: Bool = false, now: MonotonicTime = .at(100)) -> Bool {
        pace.sawRetry(of: sequence, isEvidence: isEvidence, isProbe: isProbe, policy: Self.policy, now: now)
    }

    private func live() -> Bool { pace.sawLife() }

    private func fail(now: MonotonicTime = .at(100)) { for sequence: UInt64 in 1...5 { retry(sequence, now: now) } }

    /// How many deliveries may be open at a time, while it is not failing.
    private var window: Int { (0...20).prefix { pace.allows(open: $0) }.count }

    @Test("A new receiver may open its limit")
    func fresh() {
        #expect(window == 10)
        #expect(!pace.isFailing)
    }

    @Test("The fifth different profile in a row makes it failing, and is the only one to say so")
    func failing() {
        #expect((1...4).map { retry($0) } == [false, false, false, false])
        #expect(!pace.isFailing && window == 10)
        #expect(retry(5))
        #expect(pace.isFailing)
        #expect(!retry(6))
    }

    @Test("One profile that comes back again and again does not make it failing")
    func sameProfile() {
        for _ in 0..<20 { #expect(!retry(7)) }
        #expect(!pace.isFailing && window == 10)
    }

    @Test("Retries that say nothing about the destination do not make it failing, however many they are")
    func noEvidence() {
        for sequence: UInt64 in 1...200 { #expect(!retry(sequence, isEvidence: false)) }
        for sequence: UInt64 in 1...4 { #expect(!retry(sequence)) }
        #expect(retry(5))
    }

    @Test("Any sign of life begins the count anew")
    func life() {
        for sequence: UInt64 in 1...4 { retry(sequence) }
        #expect(!live())
        for sequence: UInt64 in 5...8 { #expect(!retry(sequence)) }
        #expect(retry(9))
    }

    @Test("A profile that was never tried probes after the shortest wait, one that was tried after its own")
    func probeTimes() {
        fail()
        for _ in 0..<3 { retry(9, isProbe: true) }
        #expect(pace.nextFreshProbe == .at(101))
        #expect(pace.nextProbe >= .at(102) && pace.nextProbe <= .at(104))
        let early = MonotonicTime(nanoseconds: 100_999_999_999)
        #expect([early, .at(101)].map { pace.allowsProbe(ofFresh: true, now: $0) } == [false, true])
        #expect([early, .at(101), .at(104)].map { pace.allowsProbe(ofFresh: false, now: $0) } == [false, false, true])
    }

    @Test("One probe is open at a time")
    func oneProbe() {
        fail()
        pace.probeBegan()
        #expect(!pace.allowsProbe(ofFresh: true, now: .at(1000)) && !pace.allowsProbe(ofFresh: false, now: .at(1000)))
        pace.probeEnded()
        #expect(pace.allowsProbe(ofFresh: true, now: .at(1000)))
    }

    @Test("Probes that fail wait longer each time; what was open before comes back in a bunch and is no probe")
    func backoff() {
        fail()
        let first = pace.nextProbe
        for sequence: UInt64 in 6...9 { retry(sequence, now: .at(200)) }
        #expect(pace.nextProbe == first)
        for range in [1...2, 2...4, 2...4] as [ClosedRange<Int64>] {
            retry(6, isProbe: true, now: .at(0))
            #expect(pace.nextProbe >= .at(range.lowerBound) && pace.nextProbe <= .at(range.upperBound))
        }
    }

    @Test("After the failing it opens 1, 2, 4, 8 and then its limit")
    func doubling() {
        fail()
        #expect(live())
        var windows = [window]
        for _ in 0..<5 {
            #expect(!live())
            windows.append(window)
        }
        #expect(windows == [1, 2, 4, 8, 10, 10])
    }

    @Test("A receiver that fails again begins its probes' waits anew")
    func again() {
        fail()
        for _ in 0..<10 { retry(6, isProbe: true, now: .at(5000)) }
        _ = live()
        for sequence: UInt64 in 1...4 { #expect(!retry(sequence)) }
        #expect(window == 1)
        #expect(retry(5))
        #expect(pace.nextProbe <= .at(102) && pace.nextFreshProbe == .at(101))
    }

    @Test("A reload lets the next probe go at once")
    func hurried() {
        fail()
        pace.hurry()
        #expect(pace.isFailing)
        #expect(pace.allowsProbe(ofFresh: true, now: .at(1)) && pace.allowsProbe(ofFresh: false, now: .at(1)))
    }
}
