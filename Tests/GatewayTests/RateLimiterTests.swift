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

    @Test("Made-up tenants cost no more memory than there is room for; those who wait long enough are forgotten")
    func manyTenants() {
        let limiter = Self.profiles(1, burst: 1)
        for number in 0..<RateLimiter.maximumTenants {
            #expect(limiter.take("t\(number)", profiles: 1, bytes: 0, now: Self.time(0)) == nil)
        }
        #expect(limiter.take("first", profiles: 1, bytes: 0, now: Self.time(0.1)) == nil)
        #expect(limiter.take("second", profiles: 1, bytes: 0, now: Self.time(0.1)) != nil, "the newcomers share a bucket")
        #expect(limiter.take("t1", profiles: 1, bytes: 0, now: Self.time(0.1)) != nil, "who was there before keeps an own one")
        for tenant in ["first", "second"] { #expect(limiter.take(tenant, profiles: 1, bytes: 0, now: Self.time(2)) == nil) }
    }
}
