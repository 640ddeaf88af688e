import Glibc

/// A point on the monotonic clock, in nanoseconds; setting the wall clock does not change it.
public struct MonotonicTime: Comparable, Sendable {
    /// The nanoseconds since the clock's start, which is about the machine's boot.
    public var nanoseconds: Int64

    /// Makes a point in time from nanoseconds on the monotonic clock.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Later than any deadline.
    public static let never = MonotonicTime(nanoseconds: .max)

    /// The current time on `CLOCK_MONOTONIC`.
    public static var now: MonotonicTime { MonotonicTime(nanoseconds: read(CLOCK_MONOTONIC)) }

    /// Tells whether `a` is earlier than `b`.
    public static func < (a: MonotonicTime, b: MonotonicTime) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Adds a duration; an overflow gives ``never``.
    public static func + (time: MonotonicTime, span: Duration) -> MonotonicTime {
        let (sum, overflow) = time.nanoseconds.addingReportingOverflow(span.inNanoseconds)
        return overflow ? .never : MonotonicTime(nanoseconds: sum)
    }

    /// The duration from `earlier` to this time.
    public func since(_ earlier: MonotonicTime) -> Duration { .nanoseconds(nanoseconds - earlier.nanoseconds) }

    /// The wall clock in nanoseconds since 1970, UTC; it stays at the largest value from 2262 on.
    public static var unixNanoseconds: Int64 { read(CLOCK_REALTIME) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return time.inNanoseconds
    }
}

/// Wall-clock time that does not jump: the wall clock at the first use in the process, advanced by the monotonic clock. Setting the
/// wall clock does not change ages that are computed from it.
public enum SteadyTime {
    private static let offset = MonotonicTime.unixNanoseconds.subtractingSaturated(MonotonicTime.now.nanoseconds)

    /// Nanoseconds since 1970, as correct as the wall clock was at the first use.
    public static var unixNanoseconds: Int64 { MonotonicTime.now.nanoseconds.addingSaturated(offset) }
}

extension FixedWidthInteger where Self: SignedInteger {
    /// The sum, clamped to the type's range.
    @inlinable public func addingSaturated(_ other: Self) -> Self {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }

    /// The difference, clamped to the type's range.
    @inlinable public func subtractingSaturated(_ other: Self) -> Self {
        let (difference, overflow) = subtractingReportingOverflow(other)
        return overflow ? (other < 0 ? .max : .min) : difference
    }
}

extension timespec {
    /// The time in nanoseconds, clamped to the range of `Int64`; as Unix time it ends in the year 2262.
    var inNanoseconds: Int64 {
        let (product, overflow) = Int64(tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (tv_sec < 0 ? .min : .max) : product.addingSaturated(Int64(tv_nsec))
    }
}

extension Duration {
    /// The duration in whole nanoseconds, clamped to the range of `Int64`.
    public var inNanoseconds: Int64 {
        let (high, low) = (UInt64(truncatingIfNeeded: attoseconds.magnitude >> 64), UInt64(truncatingIfNeeded: attoseconds.magnitude))
        let perNanosecond: UInt64 = 1_000_000_000
        // Otherwise the quotient has more than 64 bits.
        let magnitude = high < perNanosecond ? perNanosecond.dividingFullWidth((high, low)).quotient : .max
        if attoseconds >= 0 { return Int64(clamping: magnitude) }
        return Int64(exactly: magnitude).map(-) ?? .min
    }
}
