import LinuxSystem

/// The refusals of one profile by the destination; kept only in memory, so a restart begins anew.
struct Refusals {
    /// The number of refusals by a 5xx, counted only if another profile was delivered since the last one counted.
    private(set) var count = 0
    private(set) var since = MonotonicTime.never
    /// Whether the destination has answered the profile with any refusal.
    private(set) var isKnown = false
    private var passes = 0

    /// Notes a refusal.
    ///
    /// - Parameters:
    ///   - status: the destination's status; 0 when it did not answer.
    ///   - passes: the number of profiles that the receiver has delivered so far.
    /// - Returns: true when it is the first answer of the destination to this profile.
    mutating func add(status: Int, passes: Int, now: MonotonicTime) -> Bool {
        let isFirst = !isKnown && status != 0
        if status != 0 { isKnown = true }
        guard 500...599 ~= status, count == 0 || passes > self.passes else { return isFirst }
        if count == 0 { since = now }
        (count, self.passes) = (count + 1, passes)
        return isFirst
    }

    /// True when the profile was refused both before and after another one passed, so that the profile may be the cause.
    var isSuspect: Bool { count > 1 }
}
