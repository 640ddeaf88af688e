package import ConfigJSON
import LinuxSystem
import Synchronization

/// A listener's `rate_limit` block: how much each tenant may send, on average and in a burst.
package struct RateLimitConfig: Equatable, Sendable {
    /// The amount refilled each second, and the most that accumulates.
    struct Rate: Equatable, Sendable {
        var perSecond: Int
        var burst: Int
    }

    var profiles: Rate?
    var bytes: Rate?
}

extension RateLimitConfig {
    package init(_ object: ConfigObject) {
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

/// Token buckets, a pair for each tenant. Thread-safe.
package final class RateLimiter: Sendable {
    /// The most tenants that have buckets at a time, so that invented names cost no memory.
    static let maximumTenants = 10_000
    /// How many tenants are forgotten at once when that is reached, because looking at all of them takes a while.
    static let forgottenTogether = maximumTenants / 8

    /// The amounts that a tenant's buckets lack, and the time at which they lacked them. A full bucket lacks nothing, so a tenant that has not sent for a while needs no
    /// entry.
    private struct Debt {
        var profiles = 0.0
        var bytes = 0.0
        var at: MonotonicTime
    }

    private let config: RateLimitConfig
    private let debts = Mutex<[String: Debt]>([:])

    package init(_ config: RateLimitConfig) { self.config = config }

    /// Takes the cost of a request out of its tenant's buckets, or nothing when one of them holds too little.
    ///
    /// A request that costs more than a whole bucket passes when the bucket is full, and leaves a debt, because it could never
    /// pass otherwise.
    ///
    /// - Parameter reserved: how many of the bytes were already taken by ``reserve(_:bytes:beside:now:)``; a refusal gives them
    ///   back.
    /// - Returns: nil when the request may pass, otherwise how long the tenant should wait.
    func charge(_ tenant: String, profiles: Int, bytes: Int, reserved: Int = 0, now: MonotonicTime = .now) -> Duration? {
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

    /// Takes bytes of a request that is still arriving.
    ///
    /// - Parameter reserved: how many bytes the request has taken so far.
    /// - Returns: nil when the bucket holds them, otherwise how long the tenant should wait; nothing is taken then.
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

    /// Gives back bytes that a request has reserved and is not charged for.
    func giveBack(_ tenant: String, bytes: Int, now: MonotonicTime = .now) {
        guard bytes > 0 else { return }
        debts.withLock { debts in
            guard let known = debts[tenant] else { return }
            var debt = refilled(known, now)
            debt.bytes = max(0, debt.bytes - Double(bytes))
            debts[tenant] = debt
        }
    }

    /// How long the tenant should wait with such a request; nil when ``charge(_:profiles:bytes:reserved:now:)`` would let it pass.
    func wait(_ tenant: String, profiles: Int, bytes: Int, now: MonotonicTime = .now) -> Duration? {
        debts.withLock { wait(refilled($0[tenant], now), profiles: profiles, bytes: bytes) }
    }

    private func wait(_ debt: Debt, profiles: Int, bytes: Int) -> Duration? {
        let wait = max(Self.wait(debt.profiles, config.profiles, cost: profiles), Self.wait(debt.bytes, config.bytes, cost: bytes))
        return wait > 0 ? .seconds(wait) : nil
    }

    /// The seconds until the bucket holds `cost`, or is full; not above 0 when it does now.
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

    /// Forgets the tenants whose buckets are nearest to full, because these gain least by it; invented names are forgotten first
    /// when other tenants owe more.
    private func forgetFullest(in debts: inout [String: Debt], _ now: MonotonicTime) {
        let waits = debts.map { entry in
            let debt = refilled(entry.value, now)
            return (tenant: entry.key, seconds: max(seconds(debt.profiles, config.profiles), seconds(debt.bytes, config.bytes)))
        }
        for fullest in waits.sorted(by: { $0.seconds < $1.seconds }).prefix(Self.forgottenTogether) { debts[fullest.tenant] = nil }
    }

    private func seconds(_ debt: Double, _ rate: RateLimitConfig.Rate?) -> Double { rate.map { debt / Double($0.perSecond) } ?? 0 }
}

/// The charge of one request to its tenant's buckets: its bytes while they arrive, and the rest once it is known.
final class RateCharge: Sendable {
    /// How many bytes of a body may have arrived before they are taken from the bucket.
    static let step = 1 << 20

    private struct Bytes {
        var arrived = 0
        var reserved = 0
    }

    private let limiter: RateLimiter
    private let tenant: String
    private let bytes = Mutex(Bytes())

    init(_ limiter: RateLimiter, _ tenant: String) { (self.limiter, self.tenant) = (limiter, tenant) }

    /// Counts received bytes of the body.
    ///
    /// - Returns: how long the tenant should wait, when the bucket does not hold them; all that the request has taken is given
    ///   back then.
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
    /// - Parameter bytes: the cost of the whole request.
    /// - Returns: nil when it is charged, otherwise how long the tenant should wait; nothing is charged then.
    func charge(profiles: Int, bytes total: Int) -> Duration? {
        bytes.withLock { bytes in
            defer { bytes.reserved = 0 }
            return limiter.charge(tenant, profiles: profiles, bytes: total, reserved: bytes.reserved)
        }
    }

    /// Gives back what was taken, for a request that is not charged: a repeat, or one that was given up.
    func cancel() {
        bytes.withLock { bytes in
            limiter.giveBack(tenant, bytes: bytes.reserved)
            bytes.reserved = 0
        }
    }
}
