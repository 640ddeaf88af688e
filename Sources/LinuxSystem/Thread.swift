import CLinux
import Glibc

/// The scheduling priority of a thread (sched(7)).
public enum ThreadPriority: Sendable {
    case usual
    /// A smaller part of the processors, by the nice value, 1 to 19; other threads may still wait for milliseconds when they wake.
    case nice(Int32)
    /// As ``nice(_:)``, and threads that wake preempt it at once, because its slice is longer than theirs (since Linux 6.12).
    case background(nice: Int32)
    /// The thread is preempted as soon as any other wants to run, and gets a few thousandths of a busy processor (`SCHED_IDLE`).
    case idle

    /// The longest slice that the system gives, in nanoseconds.
    private static let longestSlice: UInt64 = 100_000_000

    /// Applies the priority to the calling thread; if the system refuses, the thread keeps its own.
    public func apply() {
        switch self {
        case .usual: break
        // On Linux, 0 means the calling thread alone.
        case .nice(let value): setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, value)
        case .background(let value):
            if clinux_set_nice_and_slice(value, Self.longestSlice) != 0 { ThreadPriority.nice(value).apply() }
        case .idle:
            var none = sched_param()
            _ = unsafe sched_setscheduler(0, CLINUX_SCHED_IDLE, &none)
        }
    }
}

/// Gives the calling thread, and those that it starts, a working directory and a umask of their own (unshare(2)).
///
/// - Returns: false where the system does not allow it, as in containers with a strict seccomp filter.
@discardableResult public func separateWorkingDirectory() -> Bool { unshare(CLINUX_CLONE_FS) == 0 }

/// A thread of the process, for work that may block; joined or detached exactly once.
public struct Thread: ~Copyable, Sendable {
    private let handle: pthread_t

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts `body` on a new thread that `top` and `gdb` show as `name` (15 bytes at most).
    public init(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let box = unsafe Unmanaged.passRetained(Body(body))
        var handle = pthread_t()
        let code = unsafe pthread_create(
            &handle, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard code == 0 else {
            unsafe box.release()
            throw SystemError("pthread_create \(name)", code: code)
        }
        _ = unsafe CLinux.pthread_setname_np(handle, String(decoding: name.utf8.prefix(15), as: UTF8.self))
        self.handle = handle
    }

    /// Starts `body` on a new thread that is never joined, for a call that may not return.
    public static func detached(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        try Thread(name, body).detach()
    }

    /// Waits until `body` has returned.
    public consuming func join() { pthread_join(handle, nil) }

    /// Lets the thread run on without being joined.
    public consuming func detach() { pthread_detach(handle) }
}
