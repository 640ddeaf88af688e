import LinuxSystem

/// The number of deliveries that a plugin instance may have open, adapted to the outcomes of earlier ones.
///
/// A receiver is failing after five retries in a row, each of another profile, that are evidence against the destination: it could
/// not be reached, or it refused a profile that it had never refused before. A failing receiver is probed with one delivery at a
/// time until one gets through; after that the number of open deliveries doubles from 1 up to the receiver's `max_in_flight`.
final class DeliveryPacing {
    static let retriesUntilFailing = 5

    private var limit: Int
    private var window: Int
    /// The sequences of the profiles that were evidence against the destination since its last sign of life.
    private var evidence: [UInt64] = [] { didSet { hasEvidence = !evidence.isEmpty } }
    /// Each delivery asks this, which costs less than a look at the array.
    private var hasEvidence = false
    private var failedProbes = 0
    /// The earliest time at which a profile that was tried before may be the next probe.
    private(set) var nextProbe = MonotonicTime(nanoseconds: 0)
    /// The earliest time at which a profile that was never tried may be the next probe.
    private(set) var nextFreshProbe = MonotonicTime(nanoseconds: 0)
    private(set) var isFailing = false
    /// Whether a probe is open.
    private(set) var isProbing = false

    init(limit: Int) {
        self.limit = limit
        window = limit
    }

    /// Changes `max_in_flight`.
    func change(limit new: Int) {
        window = window == limit ? new : min(window, new)
        limit = new
    }

    /// Whether another delivery may be opened in addition to `open` ones; for a receiver that is not failing.
    func allows(open: Int) -> Bool { open < window }

    /// True after a failure has ended, until as many deliveries may be open as before it.
    var isRecovering: Bool { !isFailing && window < limit }

    /// Whether a probe may be opened; for a receiver that is failing.
    func allowsProbe(ofFresh isFresh: Bool, now: MonotonicTime) -> Bool {
        !isProbing && (isFresh ? nextFreshProbe : nextProbe) <= now
    }

    func probeBegan() { isProbing = true }
    func probeEnded() { isProbing = false }

    /// Allows the next probe at once.
    func hurry() { (nextProbe, nextFreshProbe) = (MonotonicTime(nanoseconds: 0), MonotonicTime(nanoseconds: 0)) }

    /// Notes a sign of life of the destination: a delivery, a rejection, or a retry with more progress than the last one.
    ///
    /// - Returns: true when this ends the receiver's failing state.
    func sawLife() -> Bool {
        if hasEvidence { evidence = [] }
        if isFailing {
            (isFailing, failedProbes, window) = (false, 0, 1)
            return true
        }
        window = min(limit, window * 2)
        return false
    }

    /// Notes that a profile has to be retried.
    ///
    /// - Parameters:
    ///   - isEvidence: whether this is evidence against the destination, and not only against the profile.
    ///   - isProbe: whether the delivery was a probe; the deliveries that were open when the failure began do not count as failed
    ///     probes.
    /// - Returns: true when the receiver becomes failing with this retry.
    func sawRetry(of sequence: UInt64, isEvidence: Bool, isProbe: Bool, policy: RetryPolicy, now: MonotonicTime) -> Bool {
        if isFailing {
            if isProbe {
                failedProbes += 1
                setNextProbe(policy, now)
            }
            return false
        }
        if isEvidence, !evidence.contains(sequence) { evidence.append(sequence) }
        guard evidence.count >= Self.retriesUntilFailing else { return false }
        isFailing = true
        setNextProbe(policy, now)
        return true
    }

    private func setNextProbe(_ policy: RetryPolicy, _ now: MonotonicTime) {
        nextProbe = now + policy.delay(afterAttempt: max(failedProbes, 1))
        nextFreshProbe = now + policy.minimum
    }
}
