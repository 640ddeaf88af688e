import Synchronization

/// A thread of its owner's that takes jobs in batches; it starts with the first job.
///
/// For work that may block, such as syncing files: everything that has come while the last batch was being done is the
/// next batch. Jobs are not lost: ``stop()`` lets the thread finish what it has.
public final class Worker<Job: Sendable>: Sendable {
    private struct State {
        var jobs: [Job] = []
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
    ///   - priority: how far the thread stands back from the others of the process when all want to run.
    ///   - pause: after so long without a job the thread gets an empty batch, again and again; nil gives it none.
    public init(_ name: String, priority: ThreadPriority = .usual, pause: Duration? = nil) {
        (self.name, self.priority, self.pause) = (name, priority, pause)
    }

    /// Hands one job over, from any thread.
    ///
    /// - Parameter body: what the thread runs for each batch; the first one given is kept until ``stop()``.
    /// - Throws: when the thread cannot be started; the job has not been taken then.
    public func submit(_ job: Job, _ body: @escaping @Sendable ([Job]) -> Void) throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            if thread == nil { thread = try Thread(name) { [self] in run(body) } }
        }
        state.withLock { $0.jobs.append(job) }
        state.signal()
    }

    /// Takes back the jobs that have not been begun.
    public func takeBack() -> [Job] { state.withLock { state in state.takeJobs() } }

    /// True when there are jobs that have not been begun, or the thread is to end.
    public var isWanted: Bool { state.withLock { !$0.jobs.isEmpty || $0.isStopping } }

    /// Waits until every job is done and the thread has ended, at most until `deadline`: then the thread is left to itself.
    public func stop(until deadline: MonotonicTime = .never) {
        state.withLock { $0.isStopping = true }
        state.signal()
        guard let running = thread.withLock({ $0.take() }) else { return }
        let hasEnded = state.wait { state -> WaitStep<Bool> in
            state.hasEnded ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
        if hasEnded { running.join() } else { running.detach() }
    }

    private func run(_ body: @Sendable ([Job]) -> Void) {
        priority.apply()
        while true {
            let pauseEnd = pause.map { MonotonicTime.now + $0 } ?? .never
            let (batch, isStopping): ([Job], Bool) = state.wait { state in
                state.jobs.isEmpty && !state.isStopping && MonotonicTime.now < pauseEnd
                    ? .again(pauseEnd) : .done((state.takeJobs(), state.isStopping))
            }
            guard !batch.isEmpty || !isStopping else {
                state.withLock { $0.hasEnded = true }
                return state.signal()
            }
            body(batch)
        }
    }
}
