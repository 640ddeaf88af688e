import Synchronization

/// Makes sure that a plugin gets no operation after its last `abort`, which comes from another thread than the operations. Thread-safe.
final class AbortOrder: Sendable {
    private static let isGiving: UInt8 = 1
    private static let isAborted: UInt8 = 2

    private let state = Atomic<UInt8>(0)
    /// Held during a call of `abort`, because two of them must not overlap.
    private let turn = Mutex(())

    /// Makes a call that gives the plugin an operation; on the thread of the instance only.
    ///
    /// - Parameter abort: the call of `abort`, which is made after this one when the instance was aborted meanwhile: the plugin may not
    ///   have known the operation then.
    /// - Returns: false when the instance was aborted before; the plugin gets nothing then.
    func give(_ call: () -> Void, abort: () -> Void) -> Bool {
        guard state.compareExchange(expected: 0, desired: Self.isGiving, ordering: .acquiringAndReleasing).exchanged else { return false }
        call()
        let before = state.bitwiseAnd(~Self.isGiving, ordering: .acquiringAndReleasing).oldValue
        if before & Self.isAborted != 0 { turn.withLock { _ in abort() } }
        return true
    }

    /// Calls `abort`, after which nothing is given any more; from any thread.
    func abort(_ call: () -> Void) {
        state.bitwiseOr(Self.isAborted, ordering: .acquiringAndReleasing)
        turn.withLock { _ in call() }
    }
}
