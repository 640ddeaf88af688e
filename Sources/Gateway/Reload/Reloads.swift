import LinuxSystem

/// Runs reloads one after the other on a thread of their own, so that signals and periodic checks do not wait for them.
final class Reloads: Sendable {
    private struct State {
        var isCommitting = false
        var isClosed = false
    }

    private let worker = Worker<Void>("reload")
    private let state = Monitor(State())

    /// Runs `body` once for all requests since the last run began.
    func request(_ body: @escaping @Sendable () -> Void) throws(SystemError) { try worker.submit(()) { _ in body() } }

    /// Runs the part of a reload that changes the running setup, unless the gateway has begun to stop.
    ///
    /// - Returns: false when it was not run.
    func commit(_ body: () -> Void) -> Bool {
        let mayBegin = state.withLock { state in
            state.isCommitting = !state.isClosed
            return state.isCommitting
        }
        guard mayBegin else { return false }
        body()
        state.withLock { $0.isCommitting = false }
        state.signal()
        return true
    }

    /// Waits for a reload that was refused, which still undoes what it made, at most until `deadline`.
    ///
    /// - Returns: false when it has not ended; a plugin's code may be running on its behalf then.
    func stop(until deadline: MonotonicTime) -> Bool { worker.stop(until: deadline) }

    /// Prevents all further changes by reloads; waits for one that is being committed, at most until `deadline`.
    func close(until deadline: MonotonicTime) {
        state.withLock { $0.isClosed = true }
        state.wait { $0.isCommitting && MonotonicTime.now < deadline ? .again(deadline) : .done(()) }
    }
}
