import Synchronization

/// Makes sure that a plugin gets no operation after its last `abort`, which comes from another thread than the operations, and that
/// calls of `abort` do not overlap. Thread-safe; no thread waits for a call that another one makes.
final class AbortOrder: Sendable {
    /// A call that gives the plugin an operation has not returned.
    private static let isGiving: UInt8 = 1
    /// `abort` was asked for.
    private static let isAborted: UInt8 = 2
    /// A thread calls `abort`, until it is not due any more.
    private static let isAborting: UInt8 = 4
    /// `abort` is to be called, for the first time or again.
    private static let isDue: UInt8 = 8

    private let state = Atomic<UInt8>(0)

    /// Makes a call that gives the plugin an operation; on the thread of the instance only.
    ///
    /// - Parameter abort: the call of `abort`, which is made after this one when the instance was aborted meanwhile: the plugin may not
    ///   have known the operation then. A thread that is in `abort` at that time makes it.
    /// - Returns: false when the instance was aborted before; the plugin gets nothing then.
    func give(_ call: () -> Void, abort: () -> Void) -> Bool {
        guard state.compareExchange(expected: 0, desired: Self.isGiving, ordering: .acquiringAndReleasing).exchanged else { return false }
        call()
        let before = state.bitwiseAnd(~Self.isGiving, ordering: .acquiringAndReleasing).oldValue
        if before & Self.isAborted != 0 { self.abort(abort) }
        return true
    }

    /// Calls `abort`, after which nothing is given any more; from any thread. A thread that is in `abort` already calls it again instead.
    func abort(_ call: () -> Void) {
        let begin = Self.isAborted | Self.isAborting | Self.isDue
        guard state.bitwiseOr(begin, ordering: .acquiringAndReleasing).oldValue & Self.isAborting == 0 else { return }
        var now = begin
        while true {
            if now & Self.isDue != 0 {
                state.bitwiseAnd(~Self.isDue, ordering: .acquiringAndReleasing)
                call()
                now = state.load(ordering: .acquiring)
            } else {
                let end = state.compareExchange(expected: now, desired: now & ~Self.isAborting, ordering: .acquiringAndReleasing)
                if end.exchanged { return }
                now = end.original
            }
        }
    }
}
