/// A limited time to wait for other threads or processes, which is spent only while this thread gets to run.
///
/// While the machine stood still or all its processors were busy, the others had no chance either. So a pause between two looks counts
/// as ``mostForPause`` at most, however long it was.
public struct Patience: Sendable {
    /// The time that is left.
    public private(set) var left: Duration
    private var last: MonotonicTime

    private static let step = Duration.milliseconds(20)
    /// The most that counts of the time between two looks.
    public static let mostForPause = Duration.milliseconds(40)

    /// Makes one of which nothing is spent at `now`.
    public init(_ time: Duration, from now: MonotonicTime = .now) { (left, last) = (time, now) }

    /// Counts the time since the last look.
    ///
    /// - Returns: the time of the next look; nil when nothing is left.
    public mutating func look(_ now: MonotonicTime = .now) -> MonotonicTime? {
        left -= min(now.since(last), Self.mostForPause)
        last = now
        return left > .zero ? now + min(Self.step, left) : nil
    }
}

extension Monitor {
    /// Calls `find` until it returns a result, after each signal and whenever `patience` looks.
    ///
    /// - Returns: nil when nothing was found while there was time.
    public func wait<R>(_ patience: inout Patience, _ find: (inout State) -> R?) -> R? {
        wait { state -> WaitStep<R?> in
            if let found = find(&state) { return .done(found) }
            return patience.look().map { .again($0) } ?? .done(nil)
        }
    }
}
