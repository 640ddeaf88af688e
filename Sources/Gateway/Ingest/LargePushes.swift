import LinuxSystem
import Synchronization

/// Decodes Pushes that take long, one at a time, on a thread that stands back, so that a bomb costs no sender but those who
/// send large ones too; of those, what is to be inflated and what is not take turns, then addresses, then tenants.
///
/// What it makes of a message counts against `max_in_flight_bytes` while it works, so that bodies wait for it; it waits for
/// none of them, for what it does makes room.
final class LargePushes: Sendable {
    private let bodies: BodyBudget
    private let queue = Mutex(FairQueue<Job>(order: .oldestFirst))
    /// Each job is a reason to look at the queue.
    private let worker = Worker<Void>("large-pushes", priority: .nice(19))

    init(bodies: BodyBudget) { self.bodies = bodies }

    /// Ends the thread after the message it is at, which is waited for until `deadline`.
    func stop(until deadline: MonotonicTime) {
        queue.withLock { $0.removeAll() }
        worker.stop(until: deadline)
    }

    /// Runs on the thread; tells of each piece of memory that it takes, and answers what is left to do on the event loop.
    typealias Decode = @Sendable (consuming ByteBuffer, _ grow: @escaping (Int) -> Void) -> Submit
    /// Answers like ``Reception/answer``.
    typealias Submit = @Sendable () -> Response?

    private struct Job: Sendable {
        let turn: Turn
        let reply: Reply
        let decode: Decode
    }

    /// One Push on its way from its body to its profiles.
    final class Turn: Sendable {
        private enum State { case open, submitted, cancelled }

        private let state = Mutex(State.open)
        /// The body while it waits.
        fileprivate let body = Mutex<ByteBuffer?>(nil)

        /// Gives the Push up, and its body with it; false when its profiles were submitted.
        func cancel() -> Bool {
            body.withLock { $0 = nil }
            return end(as: .cancelled)
        }

        /// True once, when the Push was not given up: its profiles may be submitted now.
        func submit() -> Bool { end(as: .submitted) }

        private func end(as last: State) -> Bool {
            state.withLock { state in
                guard state == .open else { return false }
                state = last
                return true
            }
        }
    }

    /// Takes a body; its answer goes through `reply`.
    ///
    /// - Parameter lanes: the lanes that it waits in, the outermost first.
    /// - Throws: when the thread cannot be had; the body is gone then.
    func submit(
        _ body: consuming ByteBuffer, _ turn: Turn, lanes: [String], _ reply: Reply, _ decode: @escaping Decode
    ) throws(SystemError) {
        var waiting: ByteBuffer? = body
        turn.body.withLock { swap(&$0, &waiting) }
        _ = queue.withLock { $0.append(Job(turn: turn, reply: reply, decode: decode), lanes: lanes) }
        do throws(SystemError) {
            try worker.submit(()) { [self] _ in while let job = queue.withLock({ $0.next() }) { run(job) } }
        } catch {
            // The next thread would find it in the queue, after its sender was told to come again.
            _ = turn.cancel()
            throw error
        }
    }

    private func run(_ job: Job) {
        guard let body = job.turn.body.withLock({ $0.take() }) else { return }
        let reply = job.reply
        var held = body.count
        bodies.add(held)
        let submit = job.decode(body) { [bodies] size in
            bodies.add(size)
            held += size
        }
        bodies.release(held)
        // Queues are entered from the loop: this thread, once it has a lock, could be kept from giving it back.
        reply.loop.post { table in
            if let response = submit() { table.reply(reply.connection, request: reply.request, response) }
        }
    }
}
