import LinuxSystem
import Testing

@testable import Receivers

@Suite("A receiver's pace")
final class PaceTests {
    private static let policy = RetryPolicy(minimum: .seconds(1), maximum: .seconds(4), retries: 0)
    private let pace = DeliveryPacing(limit: 10)

    /// Reports a retry of one profile.
    @discardableResult
    private func retry(_ sequence: UInt64, isEvidence: Bool = true, isProbe: Bool = false, now: MonotonicTime = .at(100)) -> Bool {
        pace.sawRetry(of: sequence, isEvidence: isEvidence, isProbe: isProbe, policy: Self.policy, now: now)
    }

    private func live() -> Bool { pace.sawLife() }

    /// Makes the receiver failing.
    private func fail(now: MonotonicTime = .at(100)) { for sequence: UInt64 in 1...5 { retry(sequence, now: now) } }

    /// The number of deliveries that may be open at a time while the receiver is not failing.
    private var window: Int { (0...20).prefix { pace.allows(open: $0) }.count }

    @Test("A new receiver may open its whole limit of deliveries")
    func fresh() {
        #expect(window == 10)
        #expect(!pace.isFailing)
    }

    @Test("The fifth different profile in a row makes the receiver failing, and only that retry reports it")
    func failing() {
        #expect((1...4).map { retry($0) } == [false, false, false, false])
        #expect(!pace.isFailing && window == 10)
        #expect(retry(5))
        #expect(pace.isFailing)
        #expect(!retry(6))
    }

    @Test("Repeated retries of one profile do not make the receiver failing")
    func sameProfile() {
        for _ in 0..<20 { #expect(!retry(7)) }
        #expect(!pace.isFailing && window == 10)
    }

    @Test("Any number of retries without evidence against the destination does not make the receiver failing")
    func noEvidence() {
        for sequence: UInt64 in 1...200 { #expect(!retry(sequence, isEvidence: false)) }
        for sequence: UInt64 in 1...4 { #expect(!retry(sequence)) }
        #expect(retry(5))
    }

    @Test("Any sign of life restarts the count of retries")
    func life() {
        for sequence: UInt64 in 1...4 { retry(sequence) }
        #expect(!live())
        for sequence: UInt64 in 5...8 { #expect(!retry(sequence)) }
        #expect(retry(9))
    }

    @Test("A fresh profile may probe after the shortest wait, and a tried one after the backoff")
    func probeTimes() {
        fail()
        for _ in 0..<3 { retry(9, isProbe: true) }
        #expect(pace.nextFreshProbe == .at(101))
        #expect(pace.nextProbe >= .at(102) && pace.nextProbe <= .at(104))
        let early = MonotonicTime(nanoseconds: 100_999_999_999)
        #expect([early, .at(101)].map { pace.allowsProbe(ofFresh: true, now: $0) } == [false, true])
        #expect([early, .at(101), .at(104)].map { pace.allowsProbe(ofFresh: false, now: $0) } == [false, false, true])
    }

    @Test("Only one probe is open at a time")
    func oneProbe() {
        fail()
        pace.probeBegan()
        #expect(!pace.allowsProbe(ofFresh: true, now: .at(1000)) && !pace.allowsProbe(ofFresh: false, now: .at(1000)))
        pace.probeEnded()
        #expect(pace.allowsProbe(ofFresh: true, now: .at(1000)))
    }

    @Test("Each failed probe makes the next one wait longer, and retries of earlier deliveries do not")
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

    @Test("A receiver that recovers opens 1, 2, 4, 8 and then its limit of deliveries")
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

    @Test("A receiver that fails again begins with the shortest wait for probes")
    func again() {
        fail()
        for _ in 0..<10 { retry(6, isProbe: true, now: .at(5000)) }
        _ = live()
        for sequence: UInt64 in 1...4 { #expect(!retry(sequence)) }
        #expect(window == 1)
        #expect(retry(5))
        #expect(pace.nextProbe <= .at(102) && pace.nextFreshProbe == .at(101))
    }

    @Test("A reload allows the next probe at once")
    func hurried() {
        fail()
        pace.hurry()
        #expect(pace.isFailing)
        #expect(pace.allowsProbe(ofFresh: true, now: .at(1)) && pace.allowsProbe(ofFresh: false, now: .at(1)))
    }
}
