import Glibc

/// A point on the monotonic clock, in nanoseconds; it never jumps when somebody sets the wall clock.
public struct MonotonicTime: Comparable, Sendable {
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Further away than any deadline.
    public static let never = MonotonicTime(nanoseconds: .max)

    public static var now: MonotonicTime { MonotonicTime(nanoseconds: read(CLOCK_MONOTONIC)) }

    public static func < (a: MonotonicTime, b: MonotonicTime) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Adds a span, stopping at ``never``.
    public static func + (time: MonotonicTime, span: Duration) -> MonotonicTime {
        let (sum, overflow) = time.nanoseconds.addingReportingOverflow(span.inNanoseconds)
        return overflow ? .never : MonotonicTime(nanoseconds: sum)
    }

    /// How long after `earlier` this is.
    public func since(_ earlier: MonotonicTime) -> Duration { .nanoseconds(nanoseconds - earlier.nanoseconds) }

    /// The wall clock: nanoseconds since 1970, UTC; from 2262 on it stands at the last one that there is.
    public static var unixNanoseconds: Int64 { read(CLOCK_REALTIME) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return time.inNanoseconds
    }
}

/// The wall clock as it was when the process asked first, carried on by the monotonic one: nobody's setting of the clock
/// makes anything older or younger that is dated by it.
public enum SteadyTime {
    private static let offset = MonotonicTime.unixNanoseconds.subtractingSaturated(MonotonicTime.now.nanoseconds)

    /// Nanoseconds since 1970, as far as the wall clock was right then.
    public static var unixNanoseconds: Int64 { MonotonicTime.now.nanoseconds.addingSaturated(offset) }
}

extension FixedWidthInteger where Self: SignedInteger {
    /// The sum, held to what there is.
    public func addingSaturated(_ other: Self) -> Self {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }

    /// The difference, held to what there is.
    public func subtractingSaturated(_ other: Self) -> Self {
        let (difference, overflow) = subtractingReportingOverflow(other)
        return overflow ? (other < 0 ? .max : .min) : difference
    }
}

extension timespec {
    /// The whole time in nanoseconds, held to the range of `Int64`: as Unix time it ends in the year 2262.
    var inNanoseconds: Int64 {
        let (product, overflow) = Int64(tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (tv_sec < 0 ? .min : .max) : product.addingSaturated(Int64(tv_nsec))
    }
}

extension Duration {
    /// The whole nanoseconds of this span, held to the range of `Int64`.
    public var inNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, carried) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }
}
