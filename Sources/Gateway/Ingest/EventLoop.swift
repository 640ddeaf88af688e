import LinuxSystem
import Synchronization

/// A thread that serves connections, as other threads see it.
final class EventLoop: Sendable {
    /// Work for the loop's thread, with what that thread owns.
    typealias Work = @Sendable (ConnectionTable) -> Void

    private let inbox = Mutex<[Work]>([])
    private let wakeup: Wakeup
    private let thread = Mutex<Thread?>(nil)

    init() throws(SystemError) { wakeup = try Wakeup() }

    /// Starts the thread.
    ///
    /// - Parameter number: tells this loop's connections from those of the others.
    func start(_ name: String, number: Int) throws(SystemError) {
        let table = Mutex<ConnectionTable?>(try ConnectionTable(loop: self, number: number, wakeup: wakeup.descriptor))
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread(name) {
                guard let table = table.withLock({ $0.take() }) else { return }
                table.run()
            }
        }
    }

    /// Hands work to the loop's thread.
    func post(_ work: @escaping Work) {
        let wasEmpty = inbox.withLock { inbox in
            inbox.append(work)
            return inbox.count == 1
        }
        // Whoever found it empty wakes the loop; the others ride along.
        if wasEmpty { wakeup.signal() }
    }

    /// Takes what has been posted; on the loop's thread.
    func takeWork() -> [Work] {
        wakeup.clear()
        return inbox.withLock { inbox in
            defer { inbox = [] }
            return inbox
        }
    }

    /// Lets every connection finish its request and closes those that have none.
    ///
    /// - Parameter done: called on the loop's thread when the last connection has gone.
    func drain(_ done: @escaping @Sendable () -> Void) { post { $0.drain(done) } }

    /// Closes everything and waits for the thread's end.
    func stop() {
        post { $0.stop() }
        thread.withLock { $0.take()?.join() }
    }
}
