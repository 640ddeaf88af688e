import LinuxSystem
import Testing

@testable import Gateway

@Suite("Rates of tenants")
struct RateLimiterTests {
    private static func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9) + 1_000_000_000_000) }

    private static func profiles(_ perSecond: Int, burst: Int) -> RateLimiter {
        RateLimiter(RateLimitConfig(profiles: .init(perSecond: perSecond, burst: burst)))
    }

    @Test("A burst passes to its last profile, the next one waits for its share of a second")
    func burst() {
        let limiter = Self.profiles(2, burst: 3)
        for _ in 0..<3 { #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(0)) == nil) }
        #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(0)) == .milliseconds(500))
        #expect(limiter.take("a", profiles: 2, bytes: 9, now: Self.time(0)) == .seconds(1))
        #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(0.49)) != nil)
        #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(0.5)) == nil)
        #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(0.5)) != nil)
        for _ in 0..<3 { #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(60)) == nil) }
        #expect(limiter.take("a", profiles: 1, bytes: 9, now: Self.time(60)) != nil, "no more than the burst is saved up")
    }

    @Test("One tenant's rate is not another one's")
    func tenants() {
        let limiter = Self.profiles(1, burst: 1)
        for tenant in ["a", "b", ""] { #expect(limiter.take(tenant, profiles: 1, bytes: 0, now: Self.time(0)) == nil) }
        for tenant in ["a", "b", ""] { #expect(limiter.take(tenant, profiles: 1, bytes: 0, now: Self.time(0)) != nil) }
    }

    @Test("What costs more than a whole burst passes once it is saved up, and is paid back", arguments: [99, 100, 101, 1000])
    func larger(bytes: Int) {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 10, burst: 100)))
        #expect(limiter.take("a", profiles: 1, bytes: bytes, now: Self.time(0)) == nil)
        let left = max(0, bytes - 99)
        #expect((limiter.take("a", profiles: 1, bytes: 1, now: Self.time(0)) == nil) == (left == 0))
        #expect(limiter.take("a", profiles: 1, bytes: 100, now: Self.time(Double(bytes) / 10 - 0.2)) != nil)
        #expect(limiter.take("a", profiles: 1, bytes: 100, now: Self.time(Double(bytes) / 10 + 0.2)) == nil)
    }

    @Test("Both rates hold, and what one refuses costs the other nothing; asking costs nothing at all")
    func both() {
        let limiter = RateLimiter(RateLimitConfig(profiles: .init(perSecond: 1, burst: 2), bytes: .init(perSecond: 10, burst: 10)))
        for _ in 0..<5 { #expect(limiter.wait("a", profiles: 2, bytes: 10, now: Self.time(0)) == nil) }
        #expect(limiter.take("a", profiles: 1, bytes: 10, now: Self.time(0)) == nil)
        #expect(limiter.take("a", profiles: 1, bytes: 5, now: Self.time(0)) == .milliseconds(500))
        #expect(limiter.take("a", profiles: 1, bytes: 0, now: Self.time(0)) == nil)
    }

    @Test("Made-up tenants cost no more memory than there is room for, and take nobody's bucket but those nearest to full")
    func manyTenants() {
        let limiter = Self.profiles(1, burst: 5)
        // A known one that owes most, and one that has sent a single profile.
        #expect(limiter.take("known", profiles: 400, bytes: 0, now: Self.time(0)) == nil)
        #expect(limiter.take("light", profiles: 1, bytes: 0, now: Self.time(0)) == nil)
        for number in 0..<(3 * RateLimiter.maximumTenants) {
            #expect(limiter.take("t\(number)", profiles: 100, bytes: 0, now: Self.time(0)) == nil)
        }
        for number in 0..<1000 { #expect(limiter.take("honest\(number)", profiles: 5, bytes: 0, now: Self.time(0.1)) == nil) }
        #expect(limiter.take("known", profiles: 1, bytes: 0, now: Self.time(0.1)) != nil, "who owes much is not forgotten for others")
        for _ in 0..<5 { #expect(limiter.take("light", profiles: 1, bytes: 0, now: Self.time(0.1)) == nil) }
    }

    // MARK: Bodies on their way

    private static let mebibyte = 1 << 20

    @Test("A body is charged as it comes, once it is a MiB ahead", arguments: [(-1, false), (0, true), (1, true)])
    func step(excess: Int, isTaken: Bool) {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 4 * Self.mebibyte)))
        let charge = RateCharge(limiter, "a")
        #expect(charge.arrived(RateCharge.step + excess) == nil)
        // Whether the whole bucket is still there.
        #expect((limiter.wait("a", profiles: 0, bytes: 4 * Self.mebibyte) != nil) == isTaken)
    }

    @Test("A second body is refused when the bucket is out, which gives back what it has taken; the first one ends well")
    func twoBodies() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 8 * Self.mebibyte)))
        let (first, second) = (RateCharge(limiter, "a"), RateCharge(limiter, "a"))
        for _ in 0..<4 {
            #expect(first.arrived(Self.mebibyte) == nil)
            #expect(second.arrived(Self.mebibyte) == nil)
        }
        #expect(second.arrived(Self.mebibyte) != nil)
        #expect(first.arrived(3 * Self.mebibyte) == nil, "what the second one had is free again")
        #expect(first.settle(profiles: 1, bytes: 7 * Self.mebibyte) == nil)
        #expect(limiter.wait("a", profiles: 0, bytes: Self.mebibyte - 100) == nil, "charged once")
        #expect(limiter.wait("a", profiles: 0, bytes: Self.mebibyte + 100) != nil)
    }

    @Test("A body larger than the bucket passes when that was full, and is paid back")
    func largerBody() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 2 * Self.mebibyte)))
        let charge = RateCharge(limiter, "a")
        for _ in 0..<5 { #expect(charge.arrived(Self.mebibyte) == nil) }
        #expect(RateCharge(limiter, "a").arrived(Self.mebibyte) != nil, "nobody else of the tenant's")
        #expect(RateCharge(limiter, "b").arrived(Self.mebibyte) == nil)
        #expect(charge.settle(profiles: 1, bytes: 5 * Self.mebibyte) == nil)
        #expect(limiter.wait("a", profiles: 0, bytes: 1) ?? .zero > .seconds(2 << 20))
    }

    @Test("A request that was charged before gives back what it has taken; one that breaks off does not")
    func cancelled() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 4 * Self.mebibyte)))
        let charge = RateCharge(limiter, "a")
        #expect(charge.arrived(2 * Self.mebibyte) == nil)
        charge.cancel()
        charge.cancel()
        #expect(limiter.wait("a", profiles: 0, bytes: 4 * Self.mebibyte) == nil)
        #expect(RateCharge(limiter, "a").arrived(2 * Self.mebibyte) == nil)
        #expect(limiter.wait("a", profiles: 0, bytes: 4 * Self.mebibyte) != nil)
    }

    @Test("What is inflated costs what is kept, and is refused as a whole")
    func inflated() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 1000)))
        #expect(RateCharge(limiter, "a").settle(profiles: 1, bytes: 900) == nil)
        #expect(RateCharge(limiter, "a").settle(profiles: 1, bytes: 5000) != nil)
        #expect(RateCharge(limiter, "a").settle(profiles: 1, bytes: 100) == nil)
    }
}
