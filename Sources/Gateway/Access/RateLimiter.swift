import ConfigJSON
import LinuxSystem
import Synchronization

/// A listener's `rate_limit` block: what each tenant may send, on average and at once.
struct RateLimitConfig: Equatable, Sendable {
    /// How much comes back each second, and the most that is saved up.
    struct Rate: Equatable, Sendable {
        var perSecond: Int
        var burst: Int
    }

    var profiles: Rate?
    var bytes: Rate?
}

extension RateLimitConfig {
    init(_ object: ConfigObject) {
        if object.value("profiles_per_second") != nil {
            let rate = object.integer("profiles_per_second", in: 1...Int(Int32.max), default: 1)
            profiles = Rate(perSecond: rate, burst: object.integer("profiles_burst", in: 1...Int(Int32.max), default: rate))
        } else if object.value("profiles_burst") != nil {
            object.refuse("profiles_burst", "means nothing without profiles_per_second")
        }
        if object.value("bytes_per_second") != nil {
            let rate = object.size("bytes_per_second", default: 1)
            bytes = Rate(perSecond: rate, burst: object.size("bytes_burst", default: rate))
        } else if object.value("bytes_burst") != nil {
            object.refuse("bytes_burst", "means nothing without bytes_per_second")
        }
        object.refuseUnknown()
        if object.value("profiles_per_second") == nil, object.value("bytes_per_second") == nil {
            object.problems.add(object.path, "must have profiles_per_second or bytes_per_second", at: object.position)
        }
    }
}

/// Token buckets, a pair for each tenant; from any thread.
final class RateLimiter: Sendable {
    /// How many tenants have buckets of their own; beyond it the newcomers share one, so that made-up names cost no memory.
    static let maximumTenants = 10_000
    /// No tenant's name, for it is longer than names may be.
    private static let others = String(repeating: "*", count: 151)

    /// What a bucket lacks, and when that was so: a full one lacks nothing, so only those who sent lately are kept.
    private struct Debt {
        var profiles = 0.0
        var bytes = 0.0
        var at: MonotonicTime
    }

    private struct State {
        var debts: [String: Debt] = [:]
        var sweptAt = MonotonicTime(nanoseconds: 0)
    }

    private let config: RateLimitConfig
    private let state = Mutex(State())

    init(_ config: RateLimitConfig) { self.config = config }

    /// Takes what a request costs out of its tenant's buckets, or nothing when one of them holds too little.
    ///
    /// What costs more than a whole bucket passes when that is full, and leaves a debt behind, for it could never pass otherwise.
    ///
    /// - Returns: nil when it may pass, else how long the tenant should wait.
    func take(_ tenant: String, profiles: Int, bytes: Int, now: MonotonicTime = .now) -> Duration? {
        pass(tenant, profiles, bytes, now, isTaken: true)
    }

    /// How long the tenant should wait with such a request; nil when ``take(_:profiles:bytes:now:)`` would let it pass.
    func wait(_ tenant: String, profiles: Int, bytes: Int, now: MonotonicTime = .now) -> Duration? {
        pass(tenant, profiles, bytes, now, isTaken: false)
    }

    private func pass(_ tenant: String, _ profiles: Int, _ bytes: Int, _ now: MonotonicTime, isTaken: Bool) -> Duration? {
        state.withLock { state in
            let name = Self.bucket(tenant, now, config, &state)
            var debt = state.debts[name] ?? Debt(at: now)
            Self.refill(&debt, config, now)
            let wait = max(
                Self.wait(debt.profiles, config.profiles, cost: profiles), Self.wait(debt.bytes, config.bytes, cost: bytes))
            guard wait <= 0 else { return .seconds(wait) }
            if isTaken {
                debt.profiles += Double(profiles)
                debt.bytes += Double(bytes)
                state.debts[name] = debt
            }
            return nil
        }
    }

    /// How long it takes until the bucket holds `cost`, or is full.
    private static func wait(_ debt: Double, _ rate: RateLimitConfig.Rate?, cost: Int) -> Double {
        guard let rate else { return 0 }
        let allowed = Double(rate.burst - min(cost, rate.burst))
        return (debt - allowed) / Double(rate.perSecond)
    }

    private static func refill(_ debt: inout Debt, _ config: RateLimitConfig, _ now: MonotonicTime) {
        let seconds = Double(max(0, now.nanoseconds - debt.at.nanoseconds)) / 1e9
        debt.profiles = max(0, debt.profiles - seconds * Double(config.profiles?.perSecond ?? Int(Int32.max)))
        debt.bytes = max(0, debt.bytes - seconds * Double(config.bytes?.perSecond ?? .max))
        debt.at = now
    }

    /// The tenant's own bucket, or the one of those for whom there is no room.
    private static func bucket(_ tenant: String, _ now: MonotonicTime, _ config: RateLimitConfig, _ state: inout State) -> String {
        guard state.debts[tenant] == nil, state.debts.count >= maximumTenants else { return tenant }
        // Looking at all of them takes a while, so not for each newcomer.
        if now >= state.sweptAt + .seconds(1) {
            state.sweptAt = now
            state.debts = state.debts.filter { entry in
                var debt = entry.value
                refill(&debt, config, now)
                return debt.profiles > 0 || debt.bytes > 0
            }
        }
        return state.debts.count >= maximumTenants ? others : tenant
    }
}
