import LinuxSystem

/// How long a profile waits between two attempts, and when it gets no further one.
struct RetryPolicy: Sendable, Equatable {
    var minimum: Duration
    var maximum: Duration
    /// How many retries a profile gets; 0 is as many as the queue gives it time for.
    var retries: Int
    /// The longest wait that a destination may ask for.
    var longestRetryAfter = Duration.seconds(300)
    /// A profile is given up as rejected when it was refused so often by a 5xx, with another one delivered between each two; 0 is never.
    var refusalsUntilRejected = 12
    /// How long it must have been refused for that.
    var refusedFor = Duration.seconds(900)

    /// The wait after the attempt number `attempt`, which counts from 1: exponential with jitter, between two bounds.
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

    /// True when a profile was refused so often and for so long, while others passed, that the fault is its own.
    func isProven(_ refusals: Refusals, now: MonotonicTime) -> Bool {
        refusalsUntilRejected > 0 && refusals.count >= refusalsUntilRejected && refusals.since + refusedFor <= now
    }
}
