import LinuxSystem

/// How long a profile waits between two attempts: exponential with jitter, between two bounds.
struct RetryPolicy: Sendable, Equatable {
    var minimum: Duration
    var maximum: Duration
    /// How many retries a profile gets; 0 is as many as the queue gives it time for.
    var retries: Int

    /// The wait after the attempt number `attempt`, which counts from 1.
    ///
    /// Attempt n waits a random time between `minimum` × 2ⁿ⁻¹ and twice that, held to the bounds; at the maximum it is the
    /// upper half, so that profiles that failed together do not come back together.
    func delay(afterAttempt attempt: Int) -> Duration {
        let low = minimum.inNanoseconds
        let high = max(low, maximum.inNanoseconds)
        let doublings = min(attempt, 62)
        let scaled = low > high >> doublings ? high : low << doublings
        let upper = min(high, max(scaled, low))
        return .nanoseconds(Int64.random(in: max(low, upper / 2)...upper))
    }

    /// True when a profile that was attempted so often gets no further attempt.
    func isExhausted(attempts: Int) -> Bool { retries > 0 && attempts > retries }
}
