/// Why a profile was dropped; the words that `gateway_profiles_dropped_total` shows.
enum DropReason: String, CaseIterable, Sendable {
    case queueFull = "queue_full"
    case maxAge = "max_age"
    case rejected
    case retriesExhausted = "retries_exhausted"
    case tooLarge = "too_large"
    case shutdown
}

/// What became of every profile that a receiver accepted.
///
/// It closes whenever nothing moves: accepted = delivered + queued + dropped.
struct ReceiverAccount: Sendable, Equatable {
    var accepted = 0
    var delivered = 0
    var retries = 0
    private(set) var dropped: [DropReason: Int] = [:]

    mutating func drop(_ reason: DropReason, _ count: Int = 1) { dropped[reason, default: 0] += count }
}
