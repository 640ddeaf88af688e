import LinuxSystem
import Synchronization

/// The end of something that a reload took out of service, on a thread of its own: the gateway goes on meanwhile.
final class Ending: Sendable {
    private let name: String
    private let deadline: Atomic<Int64>
    private let result = Monitor<Bool?>(nil)
    private let thread = Mutex<Thread?>(nil)
    private let body: @Sendable (Ending) -> Bool

    /// - Parameters:
    ///   - deadline: until when ``wait(_:)`` waits.
    ///   - body: answers whether it ended as it should.
    init(_ name: String, until deadline: MonotonicTime, _ body: @escaping @Sendable (Ending) -> Bool) {
        (self.name, self.body) = (name, body)
        self.deadline = Atomic(deadline.nanoseconds)
    }

    /// Starts the thread; without one it is tried again by the next call.
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

    /// Waits until something is done, at most until the time for that is over.
    ///
    /// - Parameters:
    ///   - share: how much of the time that is left.
    ///   - isDone: asked until when it may wait itself.
    func wait(_ share: Int = 1, _ isDone: (MonotonicTime) -> Bool) -> Bool {
        let start = MonotonicTime.now.nanoseconds
        while true {
            let deadline = deadline.load(ordering: .relaxed)
            let limit = MonotonicTime(nanoseconds: start + max(0, deadline - start) / Int64(share))
            // Now and then somebody is in a hurry.
            if isDone(min(limit, .now + .milliseconds(50))) { return true }
            if MonotonicTime.now >= limit { return false }
        }
    }

    /// Waits until something is so, and looks now and then.
    func wait(_ share: Int = 1, until isSo: () -> Bool) -> Bool {
        wait(share) { deadline in
            if isSo() { return true }
            // Its own result does not come while its thread waits here.
            _ = isDone(until: deadline)
            return isSo()
        }
    }

    /// Lets nothing be waited for from here on.
    func hurry() { deadline.store(0, ordering: .relaxed) }

    func isDone(until deadline: MonotonicTime) -> Bool {
        result.wait { result in result != nil ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline) }
    }

    /// How it ended, once it is done; waits for the thread's last instructions.
    func takeResult() -> Bool? {
        guard let result = result.withLock({ $0 }) else { return nil }
        thread.withLock { $0.take()?.join() }
        return result
    }
}

/// Everything that is ending.
final class Endings: Sendable {
    private let running = Mutex<[Ending]>([])
    /// True when something did not end as it should.
    private let failed = Atomic<Bool>(false)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }

    func start(_ ending: Ending) {
        running.withLock { $0.append(ending) }
        ending.start()
    }

    /// Forgets those that are done; called now and then.
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
