import LinuxSystem

/// Whether a destination is down, by evidence that is not the fault of one profile; a value, with the time handed in.
///
/// An attempt that got no connection counts, and the first failure of a profile, unless a success was there shortly before; what
/// fails again and again says nothing about the destination. After five such failures without a success between them it is down.
/// Then it gets one probe at a time: a profile that is new half a second after the last probe, one that was only told to stay away
/// a second after it, and one that has failed after a pause that grows.
struct Availability {
    static let failuresUntilDown = 5
    static let shortestPause = Duration.milliseconds(500)
    static let longestPause = Duration.seconds(30)
    /// So long a success speaks for a destination against the failures of single profiles.
    static let recently = Duration.seconds(2)

    /// A profile, and which attempt at it this is.
    struct Attempt {
        let sequence: UInt64
        let number: Int
    }

    /// How an attempt failed.
    enum Failure: Equatable {
        /// No connection, or no token: no profile was seen.
        case unreached
        /// The request went out and no answer came.
        case unanswered
        /// A status that is retried, or an answer that is none of Pyroscope's.
        case refused
    }

    private var failures = 0
    /// Attempts without a success between them, whatever they say.
    private var failuresInARow = 0
    private var failedProbes = 0
    private var isProbing = false
    private var lastEnd = MonotonicTime(nanoseconds: 0)
    private var lastSuccess: MonotonicTime?
    private var known = FailedProfiles()

    var isDown: Bool { failures >= Self.failuresUntilDown }

    /// Whether nothing has passed for a while, so that more of the same is not worth sending.
    var seemsAway: Bool { isDown || failuresInARow >= Self.failuresUntilDown }

    /// Whether a profile alone may be why an attempt fails, for it failed here before.
    func suspects(_ sequence: UInt64) -> Bool { known.failure(of: sequence).map { $0 != .unreached } ?? false }

    /// Whether an attempt with this profile may be made now.
    func admits(_ profile: Attempt, _ now: MonotonicTime) -> Bool { !isDown || (!isProbing && nextProbe(with: profile) <= now) }

    /// How long a profile that is not admitted should stay away.
    func pause(_ profile: Attempt, _ now: MonotonicTime) -> Duration {
        isProbing ? Self.shortestPause : max(.milliseconds(100), nextProbe(with: profile).since(now))
    }

    private func nextProbe(with profile: Attempt) -> MonotonicTime {
        if known.failure(of: profile.sequence) == nil { return lastEnd + Self.shortestPause * (profile.number == 1 ? 1 : 2) }
        return lastEnd + min(Self.longestPause, Self.shortestPause * (1 << min(max(failedProbes, 1), 10)))
    }

    /// An attempt begins.
    ///
    /// - Returns: true when it is the probe of a destination that is down.
    mutating func began() -> Bool {
        if isDown { isProbing = true }
        return isDown
    }

    /// An attempt ended without an answer that counts.
    mutating func ended(isProbe: Bool) { if isProbe { isProbing = false } }

    /// The destination answered as one that is well: it took these profiles, or refused them for good.
    mutating func succeeded(_ profiles: [Attempt], isProbe: Bool, now: MonotonicTime) {
        ended(isProbe: isProbe)
        (failures, failuresInARow, failedProbes, lastSuccess) = (0, 0, 0, now)
        for profile in profiles { known.forget(profile.sequence) }
    }

    mutating func failed(_ failure: Failure, _ profiles: [Attempt], isProbe: Bool, now: MonotonicTime) {
        ended(isProbe: isProbe)
        let isEvidence = failure == .unreached || !hasSucceededRecently(now) && profiles.contains(where: isFirstFailure)
        for profile in profiles { known.note(failure, of: profile.sequence) }
        failuresInARow += 1
        if isDown {
            // Attempts that were open when the destination went down fail together; they count as one failure and as no probe.
            if isProbe { (failedProbes, lastEnd) = (failedProbes + 1, now) }
        } else if isEvidence {
            (failures, lastEnd) = (failures + 1, now)
        }
    }

    private func hasSucceededRecently(_ now: MonotonicTime) -> Bool { lastSuccess.map { now.since($0) < Self.recently } ?? false }

    private func isFirstFailure(_ profile: Attempt) -> Bool {
        // Where some are forgotten, only a first attempt is surely the first one.
        !suspects(profile.sequence) && (profile.number == 1 || !known.hasForgotten)
    }
}

/// The profiles that failed at a destination and are still to be taken by it; the oldest are forgotten beyond a bound.
struct FailedProfiles {
    static let most = 4096

    private var failures: [UInt64: Availability.Failure] = [:]
    /// In the order in which they came; those that are settled stay in it until they are the oldest.
    private var order: [UInt64] = []
    private var oldest = 0
    /// True once one had to go for another one.
    private(set) var hasForgotten = false

    func failure(of sequence: UInt64) -> Availability.Failure? { failures[sequence] }

    mutating func note(_ failure: Availability.Failure, of sequence: UInt64) {
        let known = failures[sequence]
        // A profile that failed once by itself stays suspect, whatever becomes of its later attempts.
        if known == nil || known == .unreached { failures[sequence] = failure }
        guard known == nil else { return }
        order.append(sequence)
        while failures.count > Self.most || order.count - oldest > 2 * Self.most { forgetOldest() }
    }

    mutating func forget(_ sequence: UInt64) { failures[sequence] = nil }

    private mutating func forgetOldest() {
        if failures.removeValue(forKey: order[oldest]) != nil { hasForgotten = true }
        oldest += 1
        if oldest > Self.most {
            order.removeFirst(oldest)
            oldest = 0
        }
    }
}
