/// The reason why a profile was dropped; the raw values are labels of `gateway_profiles_dropped_total`.
package enum DropReason: String, CaseIterable, Sendable {
    case queueFull = "queue_full"
    case maxAge = "max_age"
    case rejected
    case retriesExhausted = "retries_exhausted"
    case tooLarge = "too_large"
    case shutdown
    /// The record in the spool could not be read.
    case damaged
    /// The plugin crashed several times while it had only this profile.
    case crashed
    /// The spool was full or could not be written.
    case spoolFull = "spool_full"
}

/// Counters of the fate of all profiles that a receiver accepted.
///
/// When the receiver is idle they add up: accepted + recovered = delivered + queued + dropped + dead-lettered.
struct ReceiverAccount: Sendable, Equatable {
    package var accepted = 0
    /// The number of profiles that the spool held at the start, or that were found in late segments.
    var recovered = 0
    package var delivered = 0
    package var retries = 0
    var deadLettered = 0
    package private(set) var dropped: [DropReason: Int] = [:]

    mutating func drop(_ reason: DropReason, _ count: Int = 1) { dropped[reason, default: 0] += count }
}
