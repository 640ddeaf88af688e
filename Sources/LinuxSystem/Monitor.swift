public import Glibc

/// A value with a lock, and a condition variable to wait for changes, on the monotonic clock.
///
/// `@unchecked`: the lock makes it sendable; `Synchronization.Mutex` has no condition variable.
@safe public final class Monitor<State>: @unchecked Sendable {
    /// The value is behind a pointer, so that Swift does not check at run time that each access is the only one: the lock makes sure of it.
    @usableFromInline let state: UnsafeMutablePointer<State>
    @usableFromInline let lock: UnsafeMutablePointer<pthread_mutex_t>
    @usableFromInline let changed: UnsafeMutablePointer<pthread_cond_t>

    /// Makes a monitor that owns `state` as its first value.
    public init(_ state: State) {
        unsafe self.state = .allocate(capacity: 1)
        unsafe self.state.initialize(to: state)
        unsafe lock = .allocate(capacity: 1)
        unsafe changed = .allocate(capacity: 1)
        var kind = pthread_mutexattr_t()
        unsafe pthread_mutexattr_init(&kind)
        // A thread tries for some microseconds before it sleeps: the lock is held for about one, and a sleep costs several.
        unsafe pthread_mutexattr_settype(&kind, Int32(PTHREAD_MUTEX_ADAPTIVE_NP))
        unsafe pthread_mutex_init(lock, &kind)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(changed, &attributes)
    }

    deinit {
        unsafe pthread_cond_destroy(changed)
        unsafe pthread_mutex_destroy(lock)
        unsafe state.deinitialize(count: 1)
        unsafe state.deallocate()
        unsafe changed.deallocate()
        unsafe lock.deallocate()
    }

    /// Runs `body` with the value locked. `body` must not block.
    @inlinable public func withLock<R, E: Error>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        return try unsafe body(&state.pointee)
    }

    /// Wakes every thread that waits in ``wait(_:)``.
    @inlinable public func signal() { unsafe pthread_cond_broadcast(changed) }

    /// Waits until `condition` is true of the value, at most until `deadline`; returns whether it is.
    ///
    /// `condition` runs with the value locked.
    @discardableResult @inlinable public func wait(until deadline: MonotonicTime, for condition: (State) -> Bool) -> Bool {
        wait { state in condition(state) ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline) }
    }

    /// Calls `step` until it returns a result; between the calls, waits for a signal or until the time that `step` returned.
    ///
    /// `step` runs with the value locked.
    @inlinable public func wait<R>(_ step: (inout State) -> WaitStep<R>) -> R {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        while true {
            switch unsafe step(&state.pointee) {
            case .done(let result): return result
            case .again(.never): unsafe pthread_cond_wait(changed, lock)
            case .again(let time):
                var deadline = timespec()
                deadline.tv_sec = Int(time.nanoseconds / 1_000_000_000)
                deadline.tv_nsec = Int(time.nanoseconds % 1_000_000_000)
                unsafe pthread_cond_timedwait(changed, lock, &deadline)
            }
        }
    }
}

/// The result of a step of ``Monitor/wait(_:)``.
public enum WaitStep<Result> {
    case done(Result)
    /// Call the step again after a signal, or at this time at the latest.
    case again(MonotonicTime)
}
