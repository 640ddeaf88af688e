import LinuxSystem
import Synchronization

/// A thread that serves connections; this type is what other threads may use of it.
final class EventLoop: Sendable {
    /// Work that runs on the loop's thread, with the table that this thread owns.
    typealias Work = @Sendable (ConnectionTable) -> Void

    private let inbox = Mutex<[Work]>([])
    private let wakeup: Wakeup
    private let thread = Mutex<Thread?>(nil)

    init() throws(SystemError) { wakeup = try Wakeup() }

    /// Starts the thread.
    ///
    /// - Parameter number: distinguishes this loop's connections from those of other loops.
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
        // Only the first post to an empty inbox wakes the loop, which then takes all that has been posted.
        if wasEmpty { wakeup.signal() }
    }

    /// Makes the loop look whether a step of a handshake has been made.
    func wake() { wakeup.signal() }

    /// Takes the posted work; called on the loop's thread.
    func takeWork() -> [Work] {
        wakeup.clear()
        return inbox.withLock { inbox in
            defer { inbox = [] }
            return inbox
        }
    }

    /// Lets every connection finish its request and closes those that have none.
    ///
    /// - Parameter done: called on the loop's thread when the last connection has closed.
    func drain(_ done: @escaping @Sendable () -> Void) { post { $0.drain(done) } }

    /// Closes all connections and waits until the thread has ended.
    func stop() {
        post { $0.stop() }
        thread.withLock { $0.take()?.join() }
    }
}
