package import LinuxSystem
import Synchronization

/// The clock that profiles in the spool are dated by.
///
/// A record contains its time of acceptance by the wall clock, for use after a restart. While the process lives, ages are computed
/// with the monotonic clock: each segment keeps the difference between the two clocks at its creation, and a new segment is begun
/// when the wall clock is set.
package final class SpoolClock: Sendable {
    /// A change of the difference up to this many nanoseconds counts as slewing, a larger one as a step.
    static let largestSlew: Int64 = 1_000_000_000

    private let wall: @Sendable () -> Int64
    /// The difference from the monotonic to the wall clock, in nanoseconds.
    private let current: Mutex<Int64>
    /// The difference at the start; records of earlier processes are dated by it.
    let first: Int64

    /// - Parameter wall: returns the Unix time in nanoseconds.
    init(wall: @escaping @Sendable () -> Int64 = { MonotonicTime.unixNanoseconds }) {
        self.wall = wall
        first = wall().subtractingSaturated(MonotonicTime.now.nanoseconds)
        current = Mutex(first)
    }

    /// The current difference, used for new segments.
    var offset: Int64 { current.withLock { $0 } }

    /// The current time by this clock, Unix nanoseconds: the time of acceptance of new profiles.
    var now: Int64 { MonotonicTime.now.nanoseconds.addingSaturated(offset) }

    /// Checks whether the wall clock was set, and if so takes the new difference.
    ///
    /// - Returns: whether the wall clock was set since the last check.
    func hasStepped() -> Bool {
        let now = wall()
        // A time of `.max` stands for a clock beyond the range of nanoseconds, from which no difference can be computed.
        guard now < .max else { return false }
        let found = now.subtractingSaturated(MonotonicTime.now.nanoseconds)
        return current.withLock { current in
            guard found.subtractingSaturated(current).magnitude > Self.largestSlew.magnitude else { return false }
            current = found
            return true
        }
    }

    /// Converts a record's time of acceptance to the monotonic clock; a time in the future becomes `now`, and one too far in the
    /// past is raised to a representable value.
    ///
    /// - Parameter offset: the difference from the monotonic clock to the clock that the record was dated by, in nanoseconds.
    package static func time(of unixTime: Int64, offset: Int64, now: MonotonicTime) -> MonotonicTime {
        MonotonicTime(nanoseconds: min(now.nanoseconds, max(unixTime.subtractingSaturated(offset), now.nanoseconds - .max / 2)))
    }
}
