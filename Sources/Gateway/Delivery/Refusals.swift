import LinuxSystem

/// What the destination's answers say of one profile; in memory alone, so a restart begins anew.
struct Refusals {
    /// How often it was refused by a 5xx while others passed: with a success of another profile between each two.
    private(set) var count = 0
    private(set) var since = MonotonicTime.never
    /// Whether the destination has answered it with a refusal of any kind.
    private(set) var isKnown = false
    private var passes = 0

    /// Takes note of a refusal.
    ///
    /// - Parameters:
    ///   - status: the destination's own, 0 when it did not answer.
    ///   - passes: how many profiles the receiver has delivered by now.
    /// - Returns: true when it is the first answer of the destination to this profile.
    mutating func add(status: Int, passes: Int, now: MonotonicTime) -> Bool {
        let isFirst = !isKnown && status != 0
        if status != 0 { isKnown = true }
        guard 500...599 ~= status, count == 0 || passes > self.passes else { return isFirst }
        if count == 0 { since = now }
        (count, self.passes) = (count + 1, passes)
        return isFirst
    }

    /// True when the profile was refused before and after another one passed: the fault may be its own.
    var isSuspect: Bool { count > 1 }
}
