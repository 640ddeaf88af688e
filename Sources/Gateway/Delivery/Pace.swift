import LinuxSystem

/// How many deliveries a plugin instance may have open, by what came back from the last ones.
///
/// A receiver is failing after five retries in a row, each of another profile, that speak against the destination: it could not
/// be reached, or it refused a profile that it had never refused before. Then one delivery at a time probes it, until one comes
/// through; after that the open deliveries double from 1 to the receiver's `max_in_flight`.
struct Pace {
    static let retriesUntilFailing = 5

    private var limit: Int
    private var window: Int
    /// The profiles that spoke against the destination since it last showed life, by sequence.
    private var evidence: [UInt64] = []
    private var failedProbes = 0
    /// When a profile that was tried before may be the next probe.
    private(set) var nextProbe = MonotonicTime(nanoseconds: 0)
    /// When a profile that was never tried may be the next probe.
    private(set) var nextFreshProbe = MonotonicTime(nanoseconds: 0)
    private(set) var isFailing = false
    /// Whether a probe is open.
    private(set) var isProbing = false

    init(limit: Int) {
        self.limit = limit
        window = limit
    }

    /// Takes another `max_in_flight`.
    mutating func change(limit new: Int) {
        window = window == limit ? new : min(window, new)
        limit = new
    }

    /// True when one more delivery may be opened beside `open` ones, while the receiver is not failing.
    func allows(open: Int) -> Bool { open < window }

    /// True from the end of a failing until as many deliveries may be open as before it.
    var isRecovering: Bool { !isFailing && window < limit }

    /// True when a probe may be opened, while the receiver is failing.
    func allowsProbe(ofFresh isFresh: Bool, now: MonotonicTime) -> Bool {
        !isProbing && (isFresh ? nextFreshProbe : nextProbe) <= now
    }

    mutating func probeBegan() { isProbing = true }
    mutating func probeEnded() { isProbing = false }

    /// Lets the next probe go at once.
    mutating func hurry() { (nextProbe, nextFreshProbe) = (MonotonicTime(nanoseconds: 0), MonotonicTime(nanoseconds: 0)) }

    /// The destination answered: a delivery, a rejection, or a retry that got further than the last one.
    ///
    /// - Returns: true when the receiver was failing until now.
    mutating func sawLife() -> Bool {
        evidence.removeAll(keepingCapacity: true)
        if isFailing {
            (isFailing, failedProbes, window) = (false, 0, 1)
            return true
        }
        window = min(limit, window * 2)
        return false
    }

    /// A profile came back for a retry.
    ///
    /// - Parameters:
    ///   - isEvidence: whether that speaks against the destination, and not only against the profile.
    ///   - isProbe: what was open when the failing began comes back in a bunch, and is not as many failed probes.
    /// - Returns: true when the receiver is failing from now on.
    mutating func sawRetry(of sequence: UInt64, isEvidence: Bool, isProbe: Bool, policy: RetryPolicy, now: MonotonicTime) -> Bool {
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

    private mutating func setNextProbe(_ policy: RetryPolicy, _ now: MonotonicTime) {
        nextProbe = now + policy.delay(afterAttempt: max(failedProbes, 1))
        nextFreshProbe = now + policy.minimum
    }
}
