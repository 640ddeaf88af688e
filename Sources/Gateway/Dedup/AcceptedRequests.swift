import LinuxSystem

/// The requests that were accepted within the window, the oldest forgotten first where there are too many.
struct AcceptedRequests {
    /// Beyond this the oldest are forgotten; so many take some 45 MB.
    static let most = 262_144

    private let limit: Int
    private var expiries: [RequestKey: MonotonicTime] = [:]
    /// In the order in which they came; those before `first` are gone.
    private var order: [RequestKey] = []
    private var first = 0

    init(limit: Int = most) { self.limit = limit }

    var count: Int { expiries.count }

    /// Whether a request is known and its window not over.
    func contains(_ key: RequestKey, now: MonotonicTime) -> Bool { expiries[key].map { $0 > now } ?? false }

    /// Remembers a request until its window is over.
    mutating func insert(_ key: RequestKey, until expiry: MonotonicTime) {
        if let known = expiries[key] {
            expiries[key] = max(known, expiry)
        } else {
            expiries[key] = expiry
            order.append(key)
            if count > limit { forgetFirst() }
        }
    }

    /// Forgets those whose window is over.
    mutating func forgetExpired(now: MonotonicTime) {
        while first < order.count, let expiry = expiries[order[first]], expiry <= now { forgetFirst() }
    }

    private mutating func forgetFirst() {
        expiries[order[first]] = nil
        first += 1
        // Moves each key once or so.
        if first > 64, first > order.count / 2 {
            order.removeFirst(first)
            first = 0
        }
    }
}
