import LinuxSystem

/// The requests that were accepted within the window, up to a limit; beyond it the oldest are forgotten.
struct AcceptedRequests {
    /// The default limit; this many requests take about 45 MB.
    static let most = 262_144

    private let limit: Int
    private var expiries: [RequestKey: MonotonicTime] = [:]
    /// The keys in the order of arrival; those before index `first` have been forgotten.
    private var order: [RequestKey] = []
    private var first = 0

    init(limit: Int = most) { self.limit = limit }

    var count: Int { expiries.count }

    /// Whether a request is remembered and its window has not ended.
    func contains(_ key: RequestKey, now: MonotonicTime) -> Bool { expiries[key].map { $0 > now } ?? false }

    /// Remembers a request until its window ends.
    mutating func insert(_ key: RequestKey, until expiry: MonotonicTime) {
        if let known = expiries[key] {
            expiries[key] = max(known, expiry)
        } else {
            expiries[key] = expiry
            order.append(key)
            if count > limit { forgetFirst() }
        }
    }

    /// Forgets requests whose window has ended.
    mutating func forgetExpired(now: MonotonicTime) {
        while first < order.count, let expiry = expiries[order[first]], expiry <= now { forgetFirst() }
    }

    private mutating func forgetFirst() {
        expiries[order[first]] = nil
        first += 1
        // Compacts only when half of the array is unused, so each key is moved about once.
        if first > 64, first > order.count / 2 {
            order.removeFirst(first)
            first = 0
        }
    }
}
