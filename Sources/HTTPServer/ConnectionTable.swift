import Glibc
import LinuxSystem
import Synchronization
import Telemetry

/// The connections and listeners of one event loop; used only on the loop's thread.
package final class ConnectionTable {
    let loop: EventLoop
    /// The buffer that sockets are read into before it is known which body the bytes belong to; one for all connections, so that
    /// an idle connection holds no buffer. It is empty before the first connection.
    var scratch: [UInt8] = []
    private(set) var now = MonotonicTime.now
    private(set) var isDraining = false

    private static let wakeupKey: UInt64 = .max
    private static let listenerBit: UInt64 = 1 << 63

    let number: Int
    private let poller: Poller
    private var connections: [Connection?] = []
    private var free: [Int] = []
    private(set) var count = 0
    /// The idle connections, one list for each listener and kind.
    var idleConnections: [IdleConnections] = []
    private var nextGeneration: UInt32 = 0
    private var listeners: [Listener?] = []
    private var acceptsAgainAt = MonotonicTime.never
    private var nextSweep = MonotonicTime.never
    private var sweepInterval = Duration.seconds(1)
    private var paused: [ConnectionKey] = []
    private var nextResume = MonotonicTime.never
    private var unread: [ConnectionKey] = [] { didSet { hasUnread = !unread.isEmpty } }
    /// Each round asks this, which costs less than a look at the array.
    private var hasUnread = false
    /// The work of other threads that is being done.
    private var posted: [EventLoop.PostedWork] = []
    let handshakes = Handshakes()
    let handshakeThread: HandshakeThread
    private var drained: (() -> Void)?
    private var isStopped = false
    var date = DateHeader()

    init(loop: EventLoop, number: Int, wakeup: Int32) throws(SystemError) {
        (self.loop, self.number) = (loop, number)
        handshakeThread = HandshakeThread(of: loop, number)
        poller = try Poller()
        // The wakeup is never read: each signal is another edge.
        try poller.add(wakeup, [.readable, .edge], key: Self.wakeupKey)
    }

    /// Starts accepting from a listener.
    package func listen(_ listener: Listener) {
        let index = listeners.firstIndex { $0 == nil } ?? listeners.count
        if index == listeners.count { listeners.append(listener) } else { listeners[index] = listener }
        // While accepting pauses, it begins with that of the others.
        if acceptsAgainAt == .never { watch(listener, index) }
        listener.share.join(loop, number)
        adaptToTimeouts()
    }

    /// Accepts the connections that the kernel has already queued for a listener, then stops accepting from it. Idle connections
    /// are closed, new ones after a moment for their first request; the others close after their current request.
    package func forget(_ listener: Listener) {
        guard let index = listeners.firstIndex(where: { $0 === listener }) else { return }
        accept(listener, atMost: .max)
        listener.descriptor.map { poller.remove($0) }
        listeners[index] = nil
        // A client in the middle of its handshake may send its request with the last message of that.
        for case let connection? in connections where connection.listener === listener && !connection.hasBegunHandshake {
            connection.leave()
        }
        // Assigned as a whole, because a change in place would make each use of the array a checked access.
        idleConnections = idleConnections.filter { $0.first != nil }
        adaptToTimeouts()
    }

    /// Sets how often all timeouts are checked: at an eighth of the shortest one, within 5 ms and 1 s, so that a timeout is at
    /// most about an eighth late.
    package func adaptToTimeouts() {
        let shortest = listeners.compactMap { listener in
            listener.map(\.service.http).map { min($0.readTimeout, $0.writeTimeout, $0.idleTimeout) }
        }.min()
        sweepInterval = max(.milliseconds(5), min(.seconds(1), (shortest ?? .seconds(8)) / 8))
    }

    private func watch(_ listener: Listener, _ index: Int) {
        guard let descriptor = listener.descriptor else { return }
        do throws(SystemError) {
            try poller.add(descriptor, [.readable, .exclusive], key: Self.listenerBit | UInt64(index))
        } catch { Log.error("cannot accept", ["listener": listener.name, "error": "\(error)"]) }
    }

    // MARK: The loop

    func run() {
        while !isStopped {
            let ready = poller.wait(until: hasUnread ? now : min(nextSweep, nextResume, acceptsAgainAt, nextHandshakeTurn))
            now = .now
            for index in 0..<ready { handle(poller[index]) }
            readUnread()
            beginNextHandshakeStep()
            if now >= acceptsAgainAt { acceptAgain() }
            if now >= nextResume { resumePaused() }
            if now >= nextSweep { sweep() }
            if count == 0, let drained {
                self.drained = nil
                drained()
            }
        }
        // Some may have come in the round of the stop. A connection refers to the table, which would never be freed with them.
        closeAll()
        handshakeThread.stop()
    }

    private func handle(_ event: Poller.Event) {
        if event.key == Self.wakeupKey {
            loop.takeWork(into: &posted)
            for work in posted { work.run(self) }
            posted.removeAll(keepingCapacity: posted.count <= 256)
            takeMadeHandshakeStep()
        } else if event.key & Self.listenerBit != 0 {
            // A listener that was removed in this round may still be among the round's events.
            if let listener = listeners[Int(event.key & 0xFFFF)] { accept(listener) }
        } else if let connection = connection(ConnectionKey(rawValue: event.key)) {
            connection.ready(event.ready)
        }
    }

    func connection(_ key: ConnectionKey) -> Connection? {
        guard connections.indices.contains(key.slot), let found = connections[key.slot], found.key == key else { return nil }
        return found
    }

    // MARK: Accepting

    /// - Parameter limit: the most connections to accept in one call, so that a burst of new ones does not starve the existing
    ///   ones.
    private func accept(_ listener: Listener, atMost limit: Int = 16) {
        for _ in 0..<limit {
            switch listener.accept() {
            case .connection(let socket, let peer):
                if listener.admit(peer) {
                    place(socket, from: peer, listener, spreads: limit < .max)
                } else {
                    refuse(socket, from: peer, listener, .perAddress)
                }
            case .none:
                if listener.noteRoom(true) { Log.info("accepting goes on", ["listener": listener.name]) }
                return
            case .exhausted(let error): return pauseAccepting(listener, error)
            }
        }
    }

    private func pauseAccepting(_ listener: Listener, _ error: SystemError) {
        // Accepting is tried again and again, but logged only once.
        if listener.noteRoom(false) {
            Log.error("accepting pauses for lack of room", ["listener": listener.name, "error": "\(error)"])
        }
        acceptsAgainAt = now + .milliseconds(250)
        for listener in listeners { listener?.descriptor.map { poller.remove($0) } }
    }

    private func acceptAgain() {
        acceptsAgainAt = .never
        guard !isDraining else { return }
        for (index, listener) in listeners.enumerated() { if let listener { watch(listener, index) } }
    }

    /// Adds an accepted connection.
    ///
    /// - Parameter limit: the limit for which it is answered 503; nil when it is served.
    func add(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, refusedBy limit: SenderLimit? = nil) {
        if scratch.isEmpty { scratch = [UInt8](repeating: 0, count: 64 * 1024) }
        nextGeneration &+= 1
        let slot = free.popLast() ?? connections.count
        if slot == connections.count { connections.append(nil) }
        let key = ConnectionKey(loop: number, generation: nextGeneration, slot: slot)
        let connection = Connection(Transport(socket), from: peer, key: key, listener: listener, table: self, refusedBy: limit)
        connections[slot] = connection
        count += 1
        loop.load.wrappingAdd(1, ordering: .relaxed)
        guard watch(connection) else { return }
        if nextSweep == .never { nextSweep = now + sweepInterval }
        if limit == nil { becameIdle(connection, .silent) }
        connection.start()
        // Another loop may have handed it over after this one has forgotten the listener.
        if listener.isClosing, !connection.hasBegunHandshake { connection.leave() }
    }

    /// Watches a connection's socket for input.
    ///
    /// - Returns: false when that is not possible; the connection has been closed then.
    func watch(_ connection: Connection) -> Bool {
        do throws(SystemError) {
            try poller.add(connection.transport.number, .readable, key: connection.key.rawValue)
            return true
        } catch {
            // An unwatched connection would hang; closing it tells the sender at once.
            connection.close()
            return false
        }
    }

    /// Removes a connection's socket from the poller, before another thread uses it.
    func unwatch(_ connection: Connection) { poller.remove(connection.transport.number) }

    /// Removes a connection, which closes its socket.
    func remove(_ connection: Connection) {
        guard self.connection(connection.key) != nil else { return }
        connections[connection.key.slot] = nil
        free.append(connection.key.slot)
        count -= 1
        loop.load.wrappingSubtract(1, ordering: .relaxed)
        if count == 0 { (connections, free) = ([], []) }
    }

    func setInterest(_ interest: Poller.Interest, of connection: Connection, _ descriptor: Int32) {
        do throws(SystemError) {
            try poller.modify(descriptor, interest, key: connection.key.rawValue)
        } catch { connection.close() }
    }

    // MARK: Time

    /// The most certificates of idle clients that are verified again in one sweep.
    private static let mostReviews = 32

    private func sweep() {
        var reviews = 0
        for case let connection? in connections {
            connection.checkDeadline(now)
            // Verifying a certificate takes a while; the remaining ones wait for the next sweep or for their client's next
            // request.
            if connection.closeIfOutdated(mayVerify: reviews < Self.mostReviews) { reviews += 1 }
        }
        nextSweep = count == 0 ? .never : now + sweepInterval
    }

    /// Tries again to read the bodies that wait for room.
    private func resumePaused() {
        let waiting = paused
        (paused, nextResume) = ([], .never)
        for key in waiting { connection(key)?.resume() }
    }

    /// Moves the next sweep forward to `deadline`, if that is earlier.
    func expect(_ deadline: MonotonicTime) { nextSweep = min(nextSweep, deadline) }

    /// Gives a connection another turn after the others, for received bytes that the poller does not see.
    func readAgain(_ connection: Connection) { unread.append(connection.key) }

    private func readUnread() {
        guard hasUnread, case let waiting = unread else { return }
        unread = []
        for key in waiting { connection(key)?.ready(.readable) }
    }

    /// Has a connection that waits for room for its body tried again, 5 ms later at most.
    func pause(_ connection: Connection) {
        paused.append(connection.key)
        nextResume = min(nextResume, now + .milliseconds(5))
    }

    // MARK: Work posted by other threads

    func reply(_ key: ConnectionKey, request: UInt32, _ response: Response) {
        connection(key)?.reply(request: request, response)
    }

    /// Accepts the connections that the kernel has already queued, then stops accepting.
    package func stopAccepting() {
        for listener in listeners { if let listener { accept(listener, atMost: .max) } }
        isDraining = true
        for listener in listeners { listener?.descriptor.map { poller.remove($0) } }
    }

    func drain(_ done: @escaping () -> Void) {
        drained = done
        for connection in connections { connection?.leave() }
    }

    /// Answers 503 to requests that are still arriving.
    ///
    /// - Parameter listeners: the listeners of these requests; nil is all of them.
    package func refuseRest(of listeners: [Listener]? = nil, because why: String) {
        for connection in connections {
            guard let connection, listeners?.contains(where: { $0 === connection.listener }) != false else { continue }
            connection.refuse(because: why)
        }
    }

    func stop() {
        isStopped = true
        for listener in listeners { listener?.share.leave(number) }
        closeAll()
    }

    private func closeAll() { for connection in connections { connection?.close() } }
}
