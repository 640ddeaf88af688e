import LinuxSystem

/// The rules for the waits between attempts at a profile, and for giving it up.
package struct RetryPolicy: Sendable, Equatable {
    package var minimum: Duration
    package var maximum: Duration
    /// The number of retries of a profile; 0 for as many as the queue's limits allow.
    package var retries: Int
    /// The longest wait that a destination may ask for.
    package var longestRetryAfter = Duration.seconds(300)
    /// The number of refusals by a 5xx, with a delivery of another profile between each two, after which a profile is given up as
    /// rejected; 0 for never.
    package var refusalsUntilRejected = 12
    /// The time since the first of these refusals that must have passed as well.
    package var refusedFor = Duration.seconds(900)

    /// The wait after attempt number `attempt`, counted from 1: exponential, with jitter, within two bounds.
    ///
    /// Attempt n waits a random time between `minimum` × 2ⁿ⁻¹ and twice that, limited to the bounds. At the maximum the wait is in
    /// the upper half of it, so that profiles that failed together do not come back together.
    func delay(afterAttempt attempt: Int) -> Duration {
        let low = minimum.inNanoseconds
        let high = max(low, maximum.inNanoseconds)
        let doublings = min(attempt, 62)
        let scaled = low > high >> doublings ? high : low << doublings
        let upper = min(high, max(scaled, low))
        return .nanoseconds(Int64.random(in: max(low, upper / 2)...upper))
    }

    /// Whether a profile with this number of attempts gets no further one.
    func isExhausted(attempts: Int) -> Bool { retries > 0 && attempts > retries }

    /// Whether a profile was refused so often and for so long, while others passed, that the profile itself must be the cause.
    func isProven(_ refusals: Refusals, now: MonotonicTime) -> Bool {
        refusalsUntilRejected > 0 && refusals.count >= refusalsUntilRejected && refusals.since + refusedFor <= now
    }
}
