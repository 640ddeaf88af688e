package import LinuxSystem

/// A deadline that can be moved to now while threads wait for it. Thread-safe.
package final class MovableDeadline: Sendable {
    private let time: Monitor<MonotonicTime>

    package init(_ deadline: MonotonicTime) { time = Monitor(deadline) }

    /// Moves the deadline to now, so that all waiting ends.
    package func hurry() {
        time.withLock { $0 = MonotonicTime(nanoseconds: 0) }
        time.signal()
    }

    /// Waits until something is done, at most for a part of the time that is left.
    ///
    /// - Parameters:
    ///   - share: the divisor of the time that is left.
    ///   - isDone: called repeatedly with the time until which it may wait itself.
    package func wait(_ share: Int = 1, _ isDone: (MonotonicTime) -> Bool) -> Bool {
        let start = MonotonicTime.now.nanoseconds
        while true {
            let deadline = time.withLock { $0.nanoseconds }
            let limit = MonotonicTime(nanoseconds: start + max(0, deadline - start) / Int64(share))
            // Waits in short steps, because the deadline may be moved.
            if isDone(min(limit, .now + .milliseconds(50))) { return true }
            if MonotonicTime.now >= limit { return false }
        }
    }

    /// Waits until a condition holds, which is checked every 50 ms.
    package func wait(_ share: Int = 1, until isSo: () -> Bool) -> Bool {
        wait(share) { step in
            if isSo() { return true }
            time.wait { deadline in deadline <= .now || step <= .now ? .done(()) : .again(min(deadline, step)) }
            return isSo()
        }
    }
}
