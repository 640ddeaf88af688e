import LinuxSystem
import Testing

@testable import ProfileAPI

@Suite("Rate limits of tenants")
struct RateLimiterTests {
    private static func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9) + 1_000_000_000_000) }

    private static func profiles(_ perSecond: Int, burst: Int) -> RateLimiter {
        RateLimiter(RateLimitConfig(profiles: .init(perSecond: perSecond, burst: burst)))
    }

    @Test("A whole burst passes, and the next profile waits until the bucket holds it")
    func burst() {
        let limiter = Self.profiles(2, burst: 3)
        for _ in 0..<3 { #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(0)) == nil) }
        #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(0)) == .milliseconds(500))
        #expect(limiter.charge("a", profiles: 2, bytes: 9, now: Self.time(0)) == .seconds(1))
        #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(0.49)) != nil)
        #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(0.5)) == nil)
        #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(0.5)) != nil)
        for _ in 0..<3 { #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(60)) == nil) }
        #expect(limiter.charge("a", profiles: 1, bytes: 9, now: Self.time(60)) != nil, "no more than the burst is saved up")
    }

    @Test("Each tenant has a rate of its own")
    func tenants() {
        let limiter = Self.profiles(1, burst: 1)
        for tenant in ["a", "b", ""] { #expect(limiter.charge(tenant, profiles: 1, bytes: 0, now: Self.time(0)) == nil) }
        for tenant in ["a", "b", ""] { #expect(limiter.charge(tenant, profiles: 1, bytes: 0, now: Self.time(0)) != nil) }
    }

    @Test("A request that costs more than the bucket holds passes when it is full, and leaves a debt", arguments: [99, 100, 101, 1000])
    func larger(bytes: Int) {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 10, burst: 100)))
        #expect(limiter.charge("a", profiles: 1, bytes: bytes, now: Self.time(0)) == nil)
        let left = max(0, bytes - 99)
        #expect((limiter.charge("a", profiles: 1, bytes: 1, now: Self.time(0)) == nil) == (left == 0))
        #expect(limiter.charge("a", profiles: 1, bytes: 100, now: Self.time(Double(bytes) / 10 - 0.2)) != nil)
        #expect(limiter.charge("a", profiles: 1, bytes: 100, now: Self.time(Double(bytes) / 10 + 0.2)) == nil)
    }

    @Test("Both rates apply, and neither a refused request nor a question takes anything")
    func both() {
        let limiter = RateLimiter(RateLimitConfig(profiles: .init(perSecond: 1, burst: 2), bytes: .init(perSecond: 10, burst: 10)))
        for _ in 0..<5 { #expect(limiter.wait("a", profiles: 2, bytes: 10, now: Self.time(0)) == nil) }
        #expect(limiter.charge("a", profiles: 1, bytes: 10, now: Self.time(0)) == nil)
        #expect(limiter.charge("a", profiles: 1, bytes: 5, now: Self.time(0)) == .milliseconds(500))
        #expect(limiter.charge("a", profiles: 1, bytes: 0, now: Self.time(0)) == nil)
    }

    @Test("Many invented tenants displace only the buckets that are nearest to full")
    func manyTenants() {
        let limiter = Self.profiles(1, burst: 5)
        // One tenant owes the most, and another has sent a single profile.
        #expect(limiter.charge("known", profiles: 400, bytes: 0, now: Self.time(0)) == nil)
        #expect(limiter.charge("light", profiles: 1, bytes: 0, now: Self.time(0)) == nil)
        for number in 0..<(3 * RateLimiter.maximumTenants) {
            #expect(limiter.charge("t\(number)", profiles: 100, bytes: 0, now: Self.time(0)) == nil)
        }
        for number in 0..<1000 { #expect(limiter.charge("honest\(number)", profiles: 5, bytes: 0, now: Self.time(0.1)) == nil) }
        #expect(limiter.charge("known", profiles: 1, bytes: 0, now: Self.time(0.1)) != nil, "who owes much is not forgotten for others")
        for _ in 0..<5 { #expect(limiter.charge("light", profiles: 1, bytes: 0, now: Self.time(0.1)) == nil) }
    }

    // MARK: Bodies

    private static let mebibyte = 1 << 20

    @Test("A body is charged while it arrives, in steps of a MiB", arguments: [(-1, false), (0, true), (1, true)])
    func step(excess: Int, isTaken: Bool) {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 4 * Self.mebibyte)))
        let charge = RateCharge(limiter, "a")
        #expect(charge.arrived(RateCharge.step + excess) == nil)
        // The bucket is no longer full if the bytes were charged.
        #expect((limiter.wait("a", profiles: 0, bytes: 4 * Self.mebibyte) != nil) == isTaken)
    }

    @Test("A body that is refused for an empty bucket returns its bytes, so that another body can finish")
    func twoBodies() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 8 * Self.mebibyte)))
        let (first, second) = (RateCharge(limiter, "a"), RateCharge(limiter, "a"))
        for _ in 0..<4 {
            #expect(first.arrived(Self.mebibyte) == nil)
            #expect(second.arrived(Self.mebibyte) == nil)
        }
        #expect(second.arrived(Self.mebibyte) != nil)
        #expect(first.arrived(3 * Self.mebibyte) == nil, "what the second one had is free again")
        #expect(first.charge(profiles: 1, bytes: 7 * Self.mebibyte) == nil)
        #expect(limiter.wait("a", profiles: 0, bytes: Self.mebibyte - 100) == nil, "charged once")
        #expect(limiter.wait("a", profiles: 0, bytes: Self.mebibyte + 100) != nil)
    }

    @Test("A body larger than the bucket passes when the bucket was full, and leaves a debt")
    func largerBody() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 2 * Self.mebibyte)))
        let charge = RateCharge(limiter, "a")
        for _ in 0..<5 { #expect(charge.arrived(Self.mebibyte) == nil) }
        #expect(RateCharge(limiter, "a").arrived(Self.mebibyte) != nil, "nobody else of the tenant's")
        #expect(RateCharge(limiter, "b").arrived(Self.mebibyte) == nil)
        #expect(charge.charge(profiles: 1, bytes: 5 * Self.mebibyte) == nil)
        #expect(limiter.wait("a", profiles: 0, bytes: 1) ?? .zero > .seconds(2 << 20))
    }

    @Test("A cancelled charge returns its bytes, and one that is only dropped does not")
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

    @Test("A charge for inflated bytes is made or refused as a whole")
    func inflated() {
        let limiter = RateLimiter(RateLimitConfig(bytes: .init(perSecond: 1, burst: 1000)))
        #expect(RateCharge(limiter, "a").charge(profiles: 1, bytes: 900) == nil)
        #expect(RateCharge(limiter, "a").charge(profiles: 1, bytes: 5000) != nil)
        #expect(RateCharge(limiter, "a").charge(profiles: 1, bytes: 100) == nil)
    }
}
