import Glibc
import HTTPServer
import LinuxSystem
import Synchronization

/// Tells the service manager that the gateway works each time that every event loop has come round, so that the manager restarts
/// one that hangs.
///
/// Has a thread of its own, because the other ones may wait for files or plugins.
final class Watchdog: Sendable {
    private let interval: Duration
    private let loops: @Sendable () -> [EventLoop]
    private let isStopping = Flag()
    private let hasEnded = Flag()
    private let thread = Mutex<Thread?>(nil)

    /// Starts the thread; nil when the manager did not ask for a sign of life.
    ///
    /// - Parameter loops: the event loops that run at the time.
    static func start(_ loops: @escaping @Sendable () -> [EventLoop]) throws(SystemError) -> Watchdog? {
        guard let limit = ServiceManager.watchdogLimit else { return nil }
        let watchdog = Watchdog(limit / 2, loops)
        try watchdog.thread.withLock { (thread) throws(SystemError) in thread = try Thread("watchdog") { watchdog.run() } }
        return watchdog
    }

    private init(_ interval: Duration, _ loops: @escaping @Sendable () -> [EventLoop]) {
        (self.interval, self.loops) = (interval, loops)
    }

    private func run() {
        while !isStopping.isSet(until: .now + interval) {
            let loops = loops()
            let busy = LoopCount(loops.count)
            for loop in loops { loop.post { _ in busy.countDown() } }
            while !busy.isZero(until: .now + .milliseconds(50)), !isStopping.isSet(until: .now) {}
            if busy.isZero(until: .now) { ServiceManager.isAlive() }
        }
        hasEnded.set()
    }

    /// Must be called before the event loops end.
    func stop() {
        isStopping.set()
        guard let thread = thread.withLock({ $0.take() }) else { return }
        if hasEnded.isSet(until: .now + .milliseconds(200)) { thread.join() } else { thread.detach() }
    }
}
