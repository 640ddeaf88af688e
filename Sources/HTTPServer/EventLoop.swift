package import LinuxSystem
import Synchronization

/// A thread that serves connections; this type is what other threads may use of it.
package final class EventLoop: Sendable {
    /// Work that runs on the loop's thread, with the table that this thread owns.
    package typealias Work = @Sendable (ConnectionTable) -> Void

    /// Work in an array; an array of the closures themselves would allocate memory for each.
    struct PostedWork: Sendable {
        let run: Work
    }

    /// How many connections it serves, or is being handed.
    let load = Atomic<Int>(0)
    private let inbox = Mutex<[PostedWork]>([])
    private let wakeup: Wakeup
    private let thread = Mutex<Thread?>(nil)
    /// The request whose body is being handed over on the loop's thread.
    private let handover = Mutex<Handover?>(nil)

    private struct Handover {
        let connection: ConnectionKey
        let request: UInt32
        /// The answer, if it has come already.
        var response: Response?
    }

    /// Set once, before the thread starts.
    private let number = Atomic<Int>(0)

    package init() throws(SystemError) { wakeup = try Wakeup() }

    /// Starts the thread.
    ///
    /// - Parameter number: distinguishes this loop's connections from those of other loops.
    package func start(_ name: String, number: Int) throws(SystemError) {
        self.number.store(number, ordering: .relaxed)
        let table = Mutex<ConnectionTable?>(try ConnectionTable(loop: self, number: number, wakeup: wakeup.descriptor))
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread(name) {
                guard let table = table.withLock({ $0.take() }) else { return }
                table.run()
            }
        }
    }

    /// Lets the other loops hand connections of a listener to this one, also before it accepts from it.
    package func join(_ listener: Listener) { listener.share.join(self, number.load(ordering: .relaxed)) }

    /// Hands work to the loop's thread.
    package func post(_ work: @escaping Work) {
        let wasEmpty = inbox.withLock { inbox in
            inbox.append(PostedWork(run: work))
            return inbox.count == 1
        }
        // Only the first post to an empty inbox wakes the loop, which then takes all that has been posted.
        if wasEmpty { wakeup.signal() }
    }

    /// Answers a request; the answer to a request that is being handed over is kept for ``handOver(_:request:_:)``, which needs no
    /// other turn of the loop.
    func reply(_ response: Response, to connection: ConnectionKey, request: UInt32) {
        let isKept = handover.withLock { handover in
            guard handover?.connection == connection, handover?.request == request else { return false }
            handover?.response = response
            return true
        }
        if !isKept { post { table in table.reply(connection, request: request, response) } }
    }

    /// Hands a request's body over by calling `body`, on the loop's thread.
    ///
    /// - Returns: the answer, if it came meanwhile.
    func handOver(_ connection: ConnectionKey, request: UInt32, _ body: () -> Void) -> Response? {
        handover.withLock { $0 = Handover(connection: connection, request: request) }
        body()
        return handover.withLock { $0.take()?.response }
    }

    /// Makes the loop look whether a step of a handshake has been made.
    func wake() { wakeup.signal() }

    /// Moves the posted work into `work`, which is empty; called on the loop's thread.
    func takeWork(into work: inout [PostedWork]) {
        // Two arrays take turns, so that neither is allocated again.
        inbox.withLock { inbox in swap(&inbox, &work) }
    }

    /// Lets every connection finish its request and closes those that have none.
    ///
    /// - Parameter done: called on the loop's thread when the last connection has closed.
    package func drain(_ done: @escaping @Sendable () -> Void) { post { $0.drain(done) } }

    /// Closes all connections and has the thread end, without waiting for it.
    package func beginStop() { post { $0.stop() } }

    /// Closes all connections and waits until the thread has ended.
    package func stop() {
        beginStop()
        thread.withLock { $0.take()?.join() }
    }
}
