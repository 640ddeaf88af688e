/// Why a profile was dropped; the words that `gateway_profiles_dropped_total` shows.
enum DropReason: String, CaseIterable, Sendable {
    case queueFull = "queue_full"
    case maxAge = "max_age"
    case rejected
    case retriesExhausted = "retries_exhausted"
    case tooLarge = "too_large"
    case shutdown
    /// The record in the spool could not be read.
    case damaged
    /// The spool had no room, or could not be written.
    case spoolFull = "spool_full"
}

/// What became of every profile that a receiver accepted.
///
/// It closes whenever nothing moves: accepted + recovered = delivered + queued + dropped + dead-lettered.
struct ReceiverAccount: Sendable, Equatable {
    var accepted = 0
    /// What the spool held at the start.
    var recovered = 0
    var delivered = 0
    var retries = 0
    var deadLettered = 0
    private(set) var dropped: [DropReason: Int] = [:]

    mutating func drop(_ reason: DropReason, _ count: Int = 1) { dropped[reason, default: 0] += count }
}
