import LinuxSystem

/// Whether an endpoint is down, judged by failures that one bad profile cannot explain; on the thread of the transfers only. The caller
/// passes the time.
///
/// Two kinds of failures count: an attempt that got no connection, and the first failure of a profile unless an attempt succeeded
/// in the last 2 s. Repeated failures of one profile do not count. After five such failures without a success between them the
/// endpoint is down. It then gets one probe at a time. The time from the last probe to the next one depends on the profile: 0.5 s
/// for a new profile, 1 s for a profile that was only deferred, and a growing pause for a profile that has failed here.
final class Availability {
    static let failuresUntilDown = 5
    static let shortestPause = Duration.milliseconds(500)
    static let longestPause = Duration.seconds(30)
    /// How long after a success the failures of single profiles do not count.
    static let recently = Duration.seconds(2)

    /// A profile, and the number of the delivery attempt.
    struct Attempt {
        let sequence: UInt64
        let number: Int
    }

    /// How an attempt failed.
    enum Failure: Equatable {
        /// No connection, or no token: the endpoint has not seen the profile.
        case unreached
        /// The request was sent and no response came.
        case unanswered
        /// A status that is retried, or a response that does not come from a Pyroscope server.
        case refused
    }

    private var failures = 0
    /// Failed attempts since the last success, of every kind.
    private var failuresInARow = 0
    private var failedProbes = 0
    private(set) var isProbing = false
    private var lastEnd = MonotonicTime(nanoseconds: 0)
    private var lastSuccess: MonotonicTime?
    private let known = FailedProfiles()

    var isDown: Bool { failures >= Self.failuresUntilDown }

    /// True when nothing has succeeded for several attempts, so that sending more of the same is not worthwhile.
    var seemsAway: Bool { isDown || failuresInARow >= Self.failuresUntilDown }

    /// Whether the profile itself may be the reason why an attempt fails, because it failed here before.
    func suspects(_ sequence: UInt64) -> Bool { known.failure(of: sequence).map { $0 != .unreached } ?? false }

    /// Whether an attempt with this profile may be made now.
    func admits(_ profile: Attempt, _ now: MonotonicTime) -> Bool { !isDown || (!isProbing && nextProbe(with: profile) <= now) }

    /// How long a profile that is not admitted should wait.
    func pause(_ profile: Attempt, _ now: MonotonicTime) -> Duration {
        isProbing ? Self.shortestPause : max(.milliseconds(100), nextProbe(with: profile).since(now))
    }

    private func nextProbe(with profile: Attempt) -> MonotonicTime {
        if known.failure(of: profile.sequence) == nil { return lastEnd + Self.shortestPause * (profile.number == 1 ? 1 : 2) }
        return lastEnd + min(Self.longestPause, Self.shortestPause * (1 << min(max(failedProbes, 1), 10)))
    }

    /// Notes that an attempt begins.
    ///
    /// - Returns: true when it is the probe of an endpoint that is down.
    func began() -> Bool {
        if isDown { isProbing = true }
        return isDown
    }

    /// Notes that an attempt ended without a result that counts.
    func ended(isProbe: Bool) { if isProbe { isProbing = false } }

    /// Notes that the endpoint works: it accepted these profiles, or rejected them permanently.
    func succeeded(_ profiles: @autoclosure () -> [Attempt], isProbe: Bool, now: MonotonicTime) {
        ended(isProbe: isProbe)
        (failures, failuresInARow, failedProbes, lastSuccess) = (0, 0, 0, now)
        guard !known.isEmpty else { return }
        for profile in profiles() { known.forget(profile.sequence) }
    }

    func failed(_ failure: Failure, _ profiles: [Attempt], isProbe: Bool, now: MonotonicTime) {
        ended(isProbe: isProbe)
        let isEvidence = failure == .unreached || !hasSucceededRecently(now) && profiles.contains(where: isFirstFailure)
        for profile in profiles { known.note(failure, of: profile.sequence) }
        failuresInARow += 1
        if isDown {
            // Attempts that were open when the endpoint went down fail together. They count as one failure, and not as probes.
            if isProbe { (failedProbes, lastEnd) = (failedProbes + 1, now) }
        } else if isEvidence {
            (failures, lastEnd) = (failures + 1, now)
        }
    }

    private func hasSucceededRecently(_ now: MonotonicTime) -> Bool { lastSuccess.map { now.since($0) < Self.recently } ?? false }

    private func isFirstFailure(_ profile: Attempt) -> Bool {
        // Once entries have been forgotten, only attempt number 1 is certain to be the first failure.
        !suspects(profile.sequence) && (profile.number == 1 || !known.hasForgotten)
    }
}

/// The profiles that failed at an endpoint and are still to be delivered to it; beyond a bound the oldest are forgotten. On the thread of
/// the transfers only.
final class FailedProfiles {
    static let most = 4096

    private var failures: [UInt64: Availability.Failure] = [:] { didSet { isEmpty = failures.isEmpty } }
    /// Each request asks this, which costs less than a look at the dictionary.
    private(set) var isEmpty = true
    /// Sequences in the order of their first failure; a settled one stays until it is the oldest.
    private var order: [UInt64] = []
    private var oldest = 0
    /// True once an unsettled entry was dropped to make room.
    private(set) var hasForgotten = false

    func failure(of sequence: UInt64) -> Availability.Failure? { failures[sequence] }

    func note(_ failure: Availability.Failure, of sequence: UInt64) {
        let known = failures[sequence]
        // A profile that failed after it reached the endpoint stays suspect, whatever happens to its later attempts.
        if known == nil || known == .unreached { failures[sequence] = failure }
        guard known == nil else { return }
        order.append(sequence)
        while failures.count > Self.most || order.count - oldest > 2 * Self.most { forgetOldest() }
    }

    func forget(_ sequence: UInt64) { failures[sequence] = nil }

    private func forgetOldest() {
        if failures.removeValue(forKey: order[oldest]) != nil { hasForgotten = true }
        oldest += 1
        if oldest > Self.most {
            order.removeFirst(oldest)
            oldest = 0
        }
    }
}
