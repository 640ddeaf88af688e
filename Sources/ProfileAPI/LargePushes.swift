package import HTTPServer
package import LinuxSystem
import Synchronization

/// Decodes Pushes that take long, one at a time, on a low-priority thread, so that a decompression bomb delays only other senders
/// of large Pushes. Among these, compressed and uncompressed Pushes take turns, then peer addresses, then tenants.
///
/// The memory that decoding takes counts against `max_in_flight_bytes`, so that arriving bodies wait for it. Decoding itself
/// never waits for room, because its end frees memory.
package final class LargePushes: Sendable {
    private let bodies: BodyBudget
    private let queue = Mutex(FairQueue<Job>(order: .oldestFirst))
    /// Each job only makes the thread look at `queue`.
    private let worker = Worker<Void>("large-pushes", priority: .background(nice: 10))

    package init(bodies: BodyBudget) { self.bodies = bodies }

    /// Drops the Pushes that wait, and has the thread end after the Push that is being decoded.
    package func beginStop() {
        queue.withLock { $0.removeAll() }
        worker.beginStop()
    }

    /// Waits until no Push is being decoded any more, at most until `deadline`; called after ``beginStop()``.
    package func areDone(until deadline: MonotonicTime) -> Bool { worker.hasEnded(until: deadline) }

    /// Drops the Pushes that wait, and joins the thread, or detaches it when a Push is still being decoded.
    package func stop() {
        beginStop()
        worker.stop(until: .now)
    }

    /// Decodes a body on the thread, reports the size of each allocation to `grow`, and returns the rest of the work for the
    /// event loop.
    typealias Decode = @Sendable (consuming ByteBuffer, _ grow: @escaping (Int) -> Void) -> @Sendable () -> Void

    private struct Job: Sendable {
        let ticket: Ticket
        let reply: Reply
        let decode: Decode
    }

    /// One Push, from its complete body to its profiles.
    final class Ticket: Sendable {
        private enum State { case open, submitted, cancelled }

        private let state = Mutex(State.open)
        /// The body while the Push waits.
        fileprivate let body = Mutex<ByteBuffer?>(nil)

        /// Gives the Push up and drops its waiting body; false when it has been submitted or given up before.
        func cancel() -> Bool {
            body.withLock { $0 = nil }
            return end(as: .cancelled)
        }

        /// Allows the caller to submit the profiles: true only once, and only if the Push was not given up.
        func submit() -> Bool { end(as: .submitted) }

        private func end(as last: State) -> Bool {
            state.withLock { state in
                guard state == .open else { return false }
                state = last
                return true
            }
        }
    }

    /// Queues a body for decoding; its answer is sent through `reply`.
    ///
    /// - Parameter lanes: the lanes that it waits in, the outermost first.
    /// - Throws: when the thread cannot be started; the body has been dropped then.
    func submit(
        _ body: consuming ByteBuffer, _ ticket: Ticket, lanes: [String], _ reply: Reply, _ decode: @escaping Decode
    ) throws(SystemError) {
        var waiting: ByteBuffer? = body
        ticket.body.withLock { swap(&$0, &waiting) }
        _ = queue.withLock { $0.append(Job(ticket: ticket, reply: reply, decode: decode), lanes: lanes) }
        do throws(SystemError) {
            try worker.submit(()) { [self] _ in while let job = queue.withLock({ $0.next() }) { run(job) } }
        } catch {
            // A thread started later would still find the Push in the queue, after its sender was told to send again.
            _ = ticket.cancel()
            throw error
        }
    }

    private func run(_ job: Job) {
        guard let body = job.ticket.body.withLock({ $0.take() }) else { return }
        var held = body.count
        bodies.add(held)
        let submit = job.decode(body) { [bodies] size in
            bodies.add(size)
            held += size
        }
        bodies.release(held)
        // Receivers' queues are entered only from the loop: this low-priority thread could be preempted while it holds their
        // locks.
        job.reply.onLoop(submit)
    }
}
