package import LinuxSystem

/// Limits a line that could come many times a second to one in an interval.
package struct LogThrottle: Sendable {
    private let interval: Duration
    private var nextLine = MonotonicTime(nanoseconds: 0)
    private var count = 0

    package init(every interval: Duration = .seconds(10)) { self.interval = interval }

    /// Counts one more event.
    ///
    /// - Returns: how many events the line that is due now stands for; nil when no line is due.
    package mutating func count(_ now: MonotonicTime) -> Int? {
        count += 1
        guard nextLine <= now else { return nil }
        defer { (count, nextLine) = (0, now + interval) }
        return count
    }
}
