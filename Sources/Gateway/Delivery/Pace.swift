import LinuxSystem

/// How many deliveries a receiver may have open, by what came back from the last ones.
///
/// A receiver is failing after five retries in a row of different profiles. Then one delivery at a time probes it, until
/// one comes through; after that the open deliveries double from 1 to the receiver's `max_in_flight`.
struct Pace {
    static let retriesUntilFailing = 5

    private var limit: Int
    private var window: Int
    private var retried: [UInt64] = []
    private var failedProbes = 0
    /// When the next probe may go; earlier than everything while the receiver is not failing.
    private(set) var nextProbe = MonotonicTime(nanoseconds: 0)
    private(set) var isFailing = false

    init(limit: Int) {
        self.limit = limit
        window = limit
    }

    /// Takes another `max_in_flight`.
    mutating func change(limit new: Int) {
        window = window == limit ? new : min(window, new)
        limit = new
    }

    /// True when one more delivery may be opened beside `open` ones.
    func allows(open: Int, now: MonotonicTime) -> Bool {
        isFailing ? open == 0 && nextProbe <= now : open < window
    }

    /// The destination answered: a delivery, a rejection, or a retry that got further than the last one.
    ///
    /// - Returns: true when the receiver was failing until now.
    mutating func sawLife() -> Bool {
        retried.removeAll(keepingCapacity: true)
        if isFailing {
            (isFailing, failedProbes, window) = (false, 0, 1)
            nextProbe = MonotonicTime(nanoseconds: 0)
            return true
        }
        window = min(limit, window * 2)
        return false
    }

    /// A profile came back for a retry, while `open` others had not come back yet.
    ///
    /// - Returns: true when the receiver is failing from now on.
    mutating func sawRetry(
        of sequence: UInt64, notBefore: MonotonicTime, open: Int, policy: RetryPolicy, now: MonotonicTime
    ) -> Bool {
        let began = !isFailing
        if began {
            if !retried.contains(sequence) { retried.append(sequence) }
            guard retried.count >= Self.retriesUntilFailing else { return false }
            isFailing = true
        }
        // What was open when the failing began comes back in a bunch; it is one failure, not as many probes.
        if open == 0 { failedProbes += 1 }
        nextProbe = max(nextProbe, notBefore, now + policy.delay(afterAttempt: max(failedProbes, 1)))
        return began
    }
}
