import LinuxSystem
import Receivers
import Synchronization
import Telemetry

/// Ends something that was taken out of service, on a thread of its own, while the gateway continues.
final class ShutdownTask: Sendable {
    private let name: String
    private let deadline: MovableDeadline
    private let result = Monitor<Bool?>(nil)
    private let thread = Mutex<Thread?>(nil)
    private let body: @Sendable (MovableDeadline) -> Bool

    /// - Parameters:
    ///   - body: does the work within the deadline; returns whether it ended properly.
    init(_ name: String, until deadline: MonotonicTime, _ body: @escaping @Sendable (MovableDeadline) -> Bool) {
        (self.name, self.body, self.deadline) = (name, body, MovableDeadline(deadline))
    }

    /// Starts the thread; if that fails, the next call tries again.
    func start() {
        thread.withLock { thread in
            guard thread == nil, !isDone(until: .now) else { return }
            do throws(SystemError) {
                thread = try Thread("end-\(name)") { [self] in
                    let result = body(deadline)
                    self.result.withLock { $0 = result }
                    self.result.signal()
                }
            } catch {
                Log.error(
                    "the thread that ends a replaced object cannot be started; it is tried again", ["name": name, "error": "\(error)"])
            }
        }
    }

    /// Ends all waiting.
    func hurry() { deadline.hurry() }

    func isDone(until deadline: MonotonicTime) -> Bool {
        result.wait(until: deadline) { $0 != nil }
    }

    /// The result, once there is one; joins the thread.
    func takeResult() -> Bool? {
        guard let result = result.withLock({ $0 }) else { return nil }
        thread.withLock { $0.take()?.join() }
        return result
    }
}

/// All endings that are running.
final class ShutdownTasks: Sendable {
    private let running = Mutex<[ShutdownTask]>([])
    /// True when one did not end properly.
    private let failed = Atomic<Bool>(false)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }

    func start(_ task: ShutdownTask) {
        // Those that are done keep what they have ended, and reloads may come faster than the periodic calls.
        tidy()
        running.withLock { $0.append(task) }
        task.start()
    }

    /// Starts endings that could not be started, and removes those that are done; called periodically.
    func tidy() {
        let all = running.withLock { $0 }
        for task in all { task.start() }
        for task in all {
            guard let result = task.takeResult() else { continue }
            if !result { failed.store(true, ordering: .relaxed) }
            running.withLock { running in running.removeAll { $0 === task } }
        }
    }

    func hurry() { for task in running.withLock({ $0 }) { task.hurry() } }

    func areDone(until deadline: MonotonicTime) -> Bool {
        let areDone = running.withLock { $0 }.allSatisfy { $0.isDone(until: deadline) }
        if areDone { tidy() }
        return areDone
    }
}
