import LinuxSystem
import Synchronization

/// What profiles in the spool are dated by.
///
/// A record says when it was accepted by the wall clock, for the next start. While this process lives, ages count by the
/// monotonic clock: every segment has the distance between the two clocks that held when it was begun, and when somebody sets
/// the wall clock another segment is begun.
final class SpoolClock: Sendable {
    /// A difference below this is the slewing of a clock, and no step.
    static let largestSlew: Int64 = 1_000_000_000

    private let wall: @Sendable () -> Int64
    /// From the monotonic to the wall clock, in nanoseconds.
    private let current: Mutex<Int64>
    /// The distance at the start, by which what earlier processes have written is dated.
    let first: Int64

    /// - Parameter wall: the Unix time in nanoseconds.
    init(wall: @escaping @Sendable () -> Int64 = { MonotonicTime.unixNanoseconds }) {
        self.wall = wall
        first = wall().subtractingSaturated(MonotonicTime.now.nanoseconds)
        current = Mutex(first)
    }

    /// The distance for what is written now.
    var offset: Int64 { current.withLock { $0 } }

    /// When something is accepted that is accepted now, Unix nanoseconds.
    var now: Int64 { MonotonicTime.now.nanoseconds.addingSaturated(offset) }

    /// Looks at the wall clock.
    ///
    /// - Returns: whether somebody has set it since the last look.
    func hasStepped() -> Bool {
        let now = wall()
        // Where the wall clock cannot be told any more, it stands.
        guard now < .max else { return false }
        let found = now.subtractingSaturated(MonotonicTime.now.nanoseconds)
        return current.withLock { current in
            guard found.subtractingSaturated(current).magnitude > Self.largestSlew.magnitude else { return false }
            current = found
            return true
        }
    }

    /// When a record was accepted, on the monotonic clock; a time that cannot be is held to what can.
    ///
    /// - Parameter offset: of the clock that it was dated by.
    static func time(of unixTime: Int64, offset: Int64, now: MonotonicTime) -> MonotonicTime {
        MonotonicTime(nanoseconds: min(now.nanoseconds, max(unixTime.subtractingSaturated(offset), now.nanoseconds - .max / 2)))
    }
}
