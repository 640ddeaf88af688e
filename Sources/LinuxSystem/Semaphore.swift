import Glibc

/// A counting semaphore (sem_overview(7)).
///
/// Unlike with ``Monitor``, no thread ever holds a lock that another one needs: a thread of low priority that is interrupted
/// anywhere delays nobody.
///
/// `@unchecked`: the functions below are safe to call from any thread.
@safe public final class Semaphore: @unchecked Sendable {
    private let semaphore: UnsafeMutablePointer<sem_t>

    /// Makes a semaphore with no signal to take, so that the first thread that waits is blocked.
    public init() {
        unsafe semaphore = .allocate(capacity: 1)
        unsafe sem_init(semaphore, 0, 0)
    }

    deinit {
        unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }

    /// Lets one waiting thread go on, or the next one that waits.
    public func signal() { unsafe sem_post(semaphore) }

    /// Waits for a signal that no other thread has taken.
    public func wait() { while unsafe sem_wait(semaphore) != 0 {} }
}
