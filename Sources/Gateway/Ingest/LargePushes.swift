import LinuxSystem
import Synchronization

/// Decodes Pushes that take long, one after the other, on a thread that stands back: a bomb costs its sender's time, and
/// nobody else's.
///
/// What it makes of a message counts against `max_in_flight_bytes` while it works, so that bodies wait for it; it waits for
/// none of them, for what it does makes room.
final class LargePushes: Sendable {
    /// Messages up to this size are decoded where they arrive, which takes about a millisecond.
    static let smallSize = 1 << 20

    private let bodies: BodyBudget
    private let worker = Worker<Job>("large-pushes", niceness: 19)

    init(bodies: BodyBudget) { self.bodies = bodies }

    /// Ends the thread once it has decoded what it has.
    func stop() { worker.stop() }

    /// One body's wait for its turn, as its connection sees it.
    final class Turn: Sendable {
        private let state = Atomic<Int>(0)

        /// True once: when the body is still wanted.
        fileprivate func begin() -> Bool { state.compareExchange(expected: 0, desired: 1, ordering: .relaxed).exchanged }

        /// Gives the turn up; false when it has begun.
        func cancel() -> Bool { state.compareExchange(expected: 0, desired: 2, ordering: .relaxed).exchanged }
    }

    /// Answers like ``Reception/answer``, and tells of each piece of memory that it takes.
    typealias Decode = @Sendable (consuming ByteBuffer, _ grow: @escaping (Int) -> Void) -> Response?

    private final class Job: Sendable {
        let body: Mutex<ByteBuffer?>
        let size: Int
        let turn: Turn
        let reply: Reply
        let decode: Decode

        init(_ body: consuming ByteBuffer, _ turn: Turn, _ reply: Reply, _ decode: @escaping Decode) {
            size = body.count
            self.body = Mutex(consume body)
            (self.turn, self.reply, self.decode) = (turn, reply, decode)
        }
    }

    /// Takes a body; its answer goes through `reply`.
    ///
    /// - Parameter decode: runs on the thread.
    /// - Throws: when the thread cannot be had.
    func submit(_ body: consuming ByteBuffer, _ turn: Turn, _ reply: Reply, _ decode: @escaping Decode) throws(SystemError) {
        let job = Job(body, turn, reply, decode)
        bodies.add(job.size)
        do throws(SystemError) {
            try worker.submit(job) { [self] jobs in jobs.forEach(run) }
        } catch {
            bodies.release(job.size)
            throw error
        }
    }

    private func run(_ job: Job) {
        var held = job.size
        if job.turn.begin(), let body = job.body.withLock({ $0.take() }) {
            let response = job.decode(body) { [bodies] size in
                bodies.add(size)
                held += size
            }
            if let response { job.reply.send(response) }
        }
        bodies.release(held)
    }
}
