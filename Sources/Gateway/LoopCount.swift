import LinuxSystem

/// Counts the event loops that still have work to do.
final class LoopCount: Sendable {
    private let count: Monitor<Int>

    init(_ count: Int) { self.count = Monitor(count) }

    /// - Returns: true for the last one.
    @discardableResult
    func countDown() -> Bool {
        defer { count.signal() }
        return count.withLock { count in
            count -= 1
            return count == 0
        }
    }

    /// Waits until the count is zero, at most until `deadline`.
    func isZero(until deadline: MonotonicTime) -> Bool {
        count.wait(until: deadline) { $0 == 0 }
    }
}
