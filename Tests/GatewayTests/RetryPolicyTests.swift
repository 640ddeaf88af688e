import LinuxSystem
import Testing

@testable import Receivers

@Suite("The number of retries and the waits between them")
struct RetryPolicyTests {
    @Test("The wait doubles with each attempt, with a random factor of up to two, within the bounds", arguments: 1...100)
    func bounds(attempt: Int) {
        let policy = RetryPolicy(minimum: .milliseconds(500), maximum: .seconds(30), retries: 0)
        let low = attempt > 6 ? Duration.seconds(15) : min(.seconds(15), .milliseconds(500 << (attempt - 1)))
        let high = attempt > 6 ? Duration.seconds(30) : min(.seconds(30), low * 2)
        for _ in 0..<50 { #expect((low...high).contains(policy.delay(afterAttempt: attempt))) }
    }

    @Test("The wait is exactly the bound when both bounds are equal", arguments: [1, 2, 3, 10, 62, 63, 64, 100, Int.max])
    func equalBounds(attempt: Int) {
        let policy = RetryPolicy(minimum: .seconds(7), maximum: .seconds(7), retries: 0)
        #expect(policy.delay(afterAttempt: attempt) == .seconds(7))
    }

    @Test("The longest and the shortest possible bounds do not overflow", arguments: [1, 2, 62, 63, 100])
    func extremes(attempt: Int) {
        let longest = RetryPolicy(minimum: .nanoseconds(Int64.max), maximum: .nanoseconds(Int64.max), retries: 0)
        #expect(longest.delay(afterAttempt: attempt) == .nanoseconds(Int64.max))
        let widest = RetryPolicy(minimum: .nanoseconds(1), maximum: .nanoseconds(Int64.max), retries: 0)
        #expect(widest.delay(afterAttempt: attempt) > .zero)
    }

    @Test(
        "A profile with N retries is tried N + 1 times",
        arguments: [(1, 1, false), (1, 2, true), (2, 2, false), (2, 3, true), (2, 4, true), (10, 10, false), (10, 11, true)])
    func exhaustion(retries: Int, attempts: Int, isExhausted: Bool) {
        let policy = RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: retries)
        #expect(policy.isExhausted(attempts: attempts) == isExhausted)
    }

    @Test("There is no last attempt without a number of retries", arguments: [1, 100, Int.max])
    func endless(attempts: Int) {
        #expect(!RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: 0).isExhausted(attempts: attempts))
    }
}
