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
    /// How many tenants have buckets at a time, so that made-up names cost no memory.
    static let maximumTenants = 10_000
    /// How many buckets are forgotten at once beyond that, for looking at all of them takes a while.
    static let forgottenTogether = maximumTenants / 8

    /// What a bucket lacks, and when that was so: a full one lacks nothing, so only those who sent lately are kept.
    private struct Debt {
        var profiles = 0.0
        var bytes = 0.0
        var at: MonotonicTime
    }

    private let config: RateLimitConfig
    private let debts = Mutex<[String: Debt]>([:])

    init(_ config: RateLimitConfig) { self.config = config }

    /// Takes what a request costs out of its tenant's buckets, or nothing when one of them holds too little.
    ///
    /// What costs more than a whole bucket passes when that is full, and leaves a debt behind, for it could never pass otherwise.
    ///
    /// - Parameter reserved: how many of the bytes were taken before by ``reserve(_:bytes:beside:now:)``; a refusal gives them back.
    /// - Returns: nil when it may pass, else how long the tenant should wait.
    func take(_ tenant: String, profiles: Int, bytes: Int, reserved: Int = 0, now: MonotonicTime = .now) -> Duration? {
        debts.withLock { debts in
            var debt = refilled(debts[tenant], now)
            debt.bytes = max(0, debt.bytes - Double(reserved))
            let wait = wait(debt, profiles: profiles, bytes: bytes)
            if wait == nil {
                debt.profiles += Double(profiles)
                debt.bytes += Double(bytes)
            }
            if wait == nil || reserved > 0 { keep(debt, of: tenant, in: &debts, now) }
            return wait
        }
    }

    /// Takes bytes of a request that is still coming.
    ///
    /// - Parameter reserved: how many it has taken so far.
    /// - Returns: nil when the bucket has them, else how long the tenant should wait; nothing is taken then.
    func reserve(_ tenant: String, bytes: Int, beside reserved: Int, now: MonotonicTime = .now) -> Duration? {
        debts.withLock { debts in
            var debt = refilled(debts[tenant], now)
            var others = debt
            others.bytes = max(0, debt.bytes - Double(reserved))
            let wait = wait(others, profiles: 0, bytes: reserved + bytes)
            if wait == nil {
                debt.bytes += Double(bytes)
                keep(debt, of: tenant, in: &debts, now)
            }
            return wait
        }
    }

    /// Gives back what a request has reserved that is not charged.
    func giveBack(_ tenant: String, bytes: Int, now: MonotonicTime = .now) {
        guard bytes > 0 else { return }
        debts.withLock { debts in
            guard let known = debts[tenant] else { return }
            var debt = refilled(known, now)
            debt.bytes = max(0, debt.bytes - Double(bytes))
            debts[tenant] = debt
        }
    }

    /// How long the tenant should wait with such a request; nil when ``take(_:profiles:bytes:reserved:now:)`` would let it pass.
    func wait(_ tenant: String, profiles: Int, bytes: Int, now: MonotonicTime = .now) -> Duration? {
        debts.withLock { wait(refilled($0[tenant], now), profiles: profiles, bytes: bytes) }
    }

    private func wait(_ debt: Debt, profiles: Int, bytes: Int) -> Duration? {
        let wait = max(Self.wait(debt.profiles, config.profiles, cost: profiles), Self.wait(debt.bytes, config.bytes, cost: bytes))
        return wait > 0 ? .seconds(wait) : nil
    }

    /// How long it takes until the bucket holds `cost`, or is full.
    private static func wait(_ debt: Double, _ rate: RateLimitConfig.Rate?, cost: Int) -> Double {
        guard let rate else { return 0 }
        let allowed = Double(rate.burst - min(cost, rate.burst))
        return (debt - allowed) / Double(rate.perSecond)
    }

    private func refilled(_ known: Debt?, _ now: MonotonicTime) -> Debt {
        guard var debt = known else { return Debt(at: now) }
        let seconds = Double(max(0, now.nanoseconds - debt.at.nanoseconds)) / 1e9
        debt.profiles = max(0, debt.profiles - seconds * Double(config.profiles?.perSecond ?? Int(Int32.max)))
        debt.bytes = max(0, debt.bytes - seconds * Double(config.bytes?.perSecond ?? .max))
        debt.at = now
        return debt
    }

    private func keep(_ debt: Debt, of tenant: String, in debts: inout [String: Debt], _ now: MonotonicTime) {
        if debts[tenant] == nil, debts.count >= Self.maximumTenants { forgetFullest(in: &debts, now) }
        debts[tenant] = debt
    }

    /// Forgets the buckets that are nearest to being full: whoever has one gains least by it, and who invents names loses them first
    /// only where others owe more.
    private func forgetFullest(in debts: inout [String: Debt], _ now: MonotonicTime) {
        let waits = debts.map { entry in
            let debt = refilled(entry.value, now)
            return (tenant: entry.key, seconds: max(seconds(debt.profiles, config.profiles), seconds(debt.bytes, config.bytes)))
        }
        for fullest in waits.sorted(by: { $0.seconds < $1.seconds }).prefix(Self.forgottenTogether) { debts[fullest.tenant] = nil }
    }

    private func seconds(_ debt: Double, _ rate: RateLimitConfig.Rate?) -> Double { rate.map { debt / Double($0.perSecond) } ?? 0 }
}

/// What one request takes out of its tenant's bucket: its bytes as they come, and the rest once it is known.
final class RateCharge: Sendable {
    /// How far a body may be ahead of what was taken for it, in bytes.
    static let step = 1 << 20

    private struct Bytes {
        var arrived = 0
        var reserved = 0
    }

    private let limiter: RateLimiter
    private let tenant: String
    private let bytes = Mutex(Bytes())

    init(_ limiter: RateLimiter, _ tenant: String) { (self.limiter, self.tenant) = (limiter, tenant) }

    /// Counts bytes of the body that have come.
    ///
    /// - Returns: how long the tenant should wait, when they are more than the bucket holds; the charge is given back then.
    func arrived(_ count: Int) -> Duration? {
        bytes.withLock { bytes in
            bytes.arrived += count
            let ahead = bytes.arrived - bytes.reserved
            guard ahead >= Self.step else { return nil }
            guard let wait = limiter.reserve(tenant, bytes: ahead, beside: bytes.reserved) else {
                bytes.reserved += ahead
                return nil
            }
            limiter.giveBack(tenant, bytes: bytes.reserved)
            bytes.reserved = 0
            return wait
        }
    }

    /// Charges the whole request.
    ///
    /// - Parameter bytes: what it costs in all.
    /// - Returns: how long the tenant should wait; nothing is charged then.
    func settle(profiles: Int, bytes total: Int) -> Duration? {
        bytes.withLock { bytes in
            defer { bytes.reserved = 0 }
            return limiter.take(tenant, profiles: profiles, bytes: total, reserved: bytes.reserved)
        }
    }

    /// Gives back what was taken: the request is one that was charged before.
    func cancel() {
        bytes.withLock { bytes in
            limiter.giveBack(tenant, bytes: bytes.reserved)
            bytes.reserved = 0
        }
    }
}
