import Glibc
import Synchronization

/// A thread that processes jobs in batches; it starts with the first job.
///
/// For work that may block, such as syncing files: all jobs that arrive during one batch form the next one. No job is lost: with
/// ``stop(until:)`` the thread finishes the jobs that it has.
public final class Worker<Job: Sendable>: Sendable {
    private struct State {
        var jobs: [Job] = []
        /// Whether the body is being called.
        var isWorking = false
        var isStopping = false
        var hasEnded = false

        mutating func takeJobs() -> [Job] {
            defer { jobs = [] }
            return jobs
        }
    }

    private let name: String
    private let priority: ThreadPriority
    private let pause: Duration?
    private let state = Monitor(State())
    private let thread = Mutex<Thread?>(nil)

    /// Makes a worker whose thread will be named `name`.
    ///
    /// - Parameters:
    ///   - priority: the scheduling priority of the thread.
    ///   - pause: how long the thread waits without a job before it calls the body with an empty batch, repeatedly; nil never does.
    public init(_ name: String, priority: ThreadPriority = .usual, pause: Duration? = nil) {
        (self.name, self.priority, self.pause) = (name, priority, pause)
    }

    /// Adds a job, from any thread.
    ///
    /// - Parameter body: the function that the thread calls for each batch; the first one given is used.
    /// - Throws: when the thread cannot be started or has been told to end; the job was not added then.
    public func submit(_ job: Job, _ body: @escaping @Sendable ([Job]) -> Void) throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            guard thread == nil else { return }
            try state.withLock { (state) throws(SystemError) in try accept(state) }
            thread = try Thread(name) { [self] in run(body) }
        }
        try state.withLock { (state) throws(SystemError) in
            try accept(state)
            state.jobs.append(job)
        }
        state.signal()
    }

    private func accept(_ state: State) throws(SystemError) {
        if state.isStopping { throw SystemError("give work to the thread \(name), which ends", code: ECANCELED) }
    }

    /// Removes and returns the jobs that were not begun.
    public func takeBack() -> [Job] { state.withLock { state in state.takeJobs() } }

    /// True when jobs wait that were not begun, or the thread is to end.
    public var isWanted: Bool { state.withLock { !$0.jobs.isEmpty || $0.isStopping } }

    /// Whether a batch is being processed.
    var isWorking: Bool { state.withLock { $0.isWorking } }

    /// Has the thread end when all jobs are done, without waiting for it.
    public func beginStop() {
        state.withLock { $0.isStopping = true }
        state.signal()
    }

    /// Waits until the thread has ended, at most until `deadline`; true at once when there is none.
    public func hasEnded(until deadline: MonotonicTime) -> Bool {
        thread.withLock { $0 == nil } || hasRun(until: deadline)
    }

    private func hasRun(until deadline: MonotonicTime) -> Bool {
        state.wait(until: deadline, for: \.hasEnded)
    }

    /// Waits until all jobs are done and the thread has ended; after `deadline` the thread is detached.
    ///
    /// - Returns: false when the thread was detached while it had jobs.
    @discardableResult
    public func stop(until deadline: MonotonicTime = .never) -> Bool {
        beginStop()
        guard thread.withLock({ $0 != nil }) else { return true }
        let hasRun = hasRun(until: deadline)
        guard let running = thread.withLock({ $0.take() }) else { return true }
        if hasRun { running.join() } else { running.detach() }
        return hasRun || state.withLock { !$0.isWorking && $0.jobs.isEmpty }
    }

    private func run(_ body: @Sendable ([Job]) -> Void) {
        priority.apply()
        while true {
            let pauseEnd = pause.map { MonotonicTime.now + $0 } ?? .never
            let (batch, isStopping): ([Job], Bool) = state.wait { state in
                state.isWorking = false
                guard !state.jobs.isEmpty || state.isStopping || MonotonicTime.now >= pauseEnd else { return .again(pauseEnd) }
                let batch = state.takeJobs()
                state.isWorking = !batch.isEmpty || !state.isStopping
                return .done((batch, state.isStopping))
            }
            guard !batch.isEmpty || !isStopping else {
                state.withLock { $0.hasEnded = true }
                return state.signal()
            }
            body(batch)
        }
    }
}
