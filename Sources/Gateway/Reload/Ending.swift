import LinuxSystem
import Synchronization

/// Ends something that was taken out of service, on a thread of its own, while the gateway continues.
final class Ending: Sendable {
    private let name: String
    private let deadline: Atomic<Int64>
    private let result = Monitor<Bool?>(nil)
    private let thread = Mutex<Thread?>(nil)
    private let body: @Sendable (Ending) -> Bool

    /// - Parameters:
    ///   - deadline: the time until which ``wait(_:_:)`` may wait.
    ///   - body: does the work; returns whether it ended properly.
    init(_ name: String, until deadline: MonotonicTime, _ body: @escaping @Sendable (Ending) -> Bool) {
        (self.name, self.body) = (name, body)
        self.deadline = Atomic(deadline.nanoseconds)
    }

    /// Starts the thread; if that fails, the next call tries again.
    func start() {
        thread.withLock { thread in
            guard thread == nil, !isDone(until: .now) else { return }
            do throws(SystemError) {
                thread = try Thread("end-\(name)") { [self] in
                    let result = body(self)
                    self.result.withLock { $0 = result }
                    self.result.signal()
                }
            } catch { Log.error("cannot end what was replaced yet", ["name": name, "error": "\(error)"]) }
        }
    }

    /// Waits until something is done, at most for a part of the time to the deadline.
    ///
    /// - Parameters:
    ///   - share: the divisor of the time that is left.
    ///   - isDone: called repeatedly with the time until which it may wait itself.
    func wait(_ share: Int = 1, _ isDone: (MonotonicTime) -> Bool) -> Bool {
        let start = MonotonicTime.now.nanoseconds
        while true {
            let deadline = deadline.load(ordering: .relaxed)
            let limit = MonotonicTime(nanoseconds: start + max(0, deadline - start) / Int64(share))
            // Waits in short steps, because ``hurry()`` may move the deadline.
            if isDone(min(limit, .now + .milliseconds(50))) { return true }
            if MonotonicTime.now >= limit { return false }
        }
    }

    /// Waits until a condition holds, which is checked every 50 ms.
    func wait(_ share: Int = 1, until isSo: () -> Bool) -> Bool {
        wait(share) { deadline in
            if isSo() { return true }
            // A pause: the result cannot come while its own thread waits here.
            _ = isDone(until: deadline)
            return isSo()
        }
    }

    /// Ends all waiting.
    func hurry() { deadline.store(0, ordering: .relaxed) }

    func isDone(until deadline: MonotonicTime) -> Bool {
        result.wait { result in result != nil ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline) }
    }

    /// The result, once there is one; joins the thread.
    func takeResult() -> Bool? {
        guard let result = result.withLock({ $0 }) else { return nil }
        thread.withLock { $0.take()?.join() }
        return result
    }
}

/// All endings that are running.
final class Endings: Sendable {
    private let running = Mutex<[Ending]>([])
    /// True when one did not end properly.
    private let failed = Atomic<Bool>(false)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }

    func start(_ ending: Ending) {
        running.withLock { $0.append(ending) }
        ending.start()
    }

    /// Starts endings that could not be started, and removes those that are done; called periodically.
    func tidy() {
        let all = running.withLock { $0 }
        for ending in all { ending.start() }
        for ending in all {
            guard let result = ending.takeResult() else { continue }
            if !result { failed.store(true, ordering: .relaxed) }
            running.withLock { running in running.removeAll { $0 === ending } }
        }
    }

    func hurry() { for ending in running.withLock({ $0 }) { ending.hurry() } }

    func areDone(until deadline: MonotonicTime) -> Bool {
        let areDone = running.withLock { $0 }.allSatisfy { $0.isDone(until: deadline) }
        if areDone { tidy() }
        return areDone
    }
}
