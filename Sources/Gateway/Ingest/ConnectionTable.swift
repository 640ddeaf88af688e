import Glibc
import LinuxSystem

/// Names a connection of one loop; a number that came back to life for another connection is another key.
struct ConnectionKey: Hashable, Sendable {
    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Loop in the top byte, so that keys are unique in the process; generation, then slot.
    init(loop: Int, generation: UInt32, slot: Int) {
        rawValue = UInt64(loop + 1) << 56 | UInt64(generation & 0xFF_FFFF) << 32 | UInt64(slot)
    }

    var slot: Int { Int(rawValue & 0xFFFF_FFFF) }
}

/// The connections and listeners of one event loop; everything here happens on its thread.
final class ConnectionTable {
    let loop: EventLoop
    /// Where sockets are read into before it is known whose bytes they are; one for all, so that idle connections have none.
    var scratch = [UInt8](repeating: 0, count: 64 * 1024)
    private(set) var now = MonotonicTime.now
    private(set) var isDraining = false

    private static let wakeupKey: UInt64 = .max
    private static let listenerBit: UInt64 = 1 << 63

    let number: Int
    private var poller: Poller
    private var connections: [Connection?] = []
    private var free: [Int] = []
    private(set) var count = 0
    /// Those without a request, by listener and kind.
    var idleConnections: [IdleConnections] = []
    private var nextGeneration: UInt32 = 0
    private var listeners: [Listener?] = []
    private var acceptsAgainAt = MonotonicTime.never
    private var nextSweep = MonotonicTime.never
    private var sweepInterval = Duration.seconds(1)
    private var paused: [ConnectionKey] = []
    private var unread: [ConnectionKey] = []
    var handshakes = Handshakes()
    var handshakeThread: HandshakeThread
    private var drained: (() -> Void)?
    private var isStopped = false
    private var dateSecond: Int64 = -1
    private var date = ""

    init(loop: EventLoop, number: Int, wakeup: Int32) throws(SystemError) {
        self.loop = loop
        self.number = number
        handshakeThread = HandshakeThread(of: loop, number)
        poller = try Poller()
        try poller.add(wakeup, .readable, key: Self.wakeupKey)
    }

    /// Begins accepting from a listener.
    func listen(_ listener: Listener) {
        let index = listeners.firstIndex { $0 == nil } ?? listeners.count
        if index == listeners.count { listeners.append(listener) } else { listeners[index] = listener }
        watch(listener, index)
        listener.share.join(loop, number)
        adaptToTimeouts()
    }

    /// Takes what the kernel has accepted for a listener, and then no more; idle connections close, the others after their
    /// request.
    func forget(_ listener: Listener) {
        guard let index = listeners.firstIndex(where: { $0 === listener }) else { return }
        accept(listener, atMost: .max)
        listener.descriptor.map { poller.remove($0) }
        listeners[index] = nil
        for connection in connections where connection?.listener === listener { connection?.closeIfIdle() }
        idleConnections.removeAll { $0.first == nil }
        adaptToTimeouts()
    }

    /// Timeouts are kept by looking at every connection now and then, often enough to be an eighth late at most.
    func adaptToTimeouts() {
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
        var events: [Poller.Event] = []
        while !isStopped {
            events.removeAll(keepingCapacity: true)
            poller.wait(until: unread.isEmpty ? min(nextSweep, acceptsAgainAt, nextHandshakeTurn) : now, into: &events)
            now = .now
            for event in events { handle(event) }
            readUnread()
            beginNextHandshakeStep()
            if now >= acceptsAgainAt { acceptAgain() }
            if now >= nextSweep { sweep() }
            if count == 0, let drained {
                self.drained = nil
                drained()
            }
        }
    }

    private func handle(_ event: Poller.Event) {
        if event.key == Self.wakeupKey {
            for work in loop.takeWork() { work(self) }
        } else if event.key & Self.listenerBit != 0 {
            // What was forgotten in this round may still be among its events.
            if let listener = listeners[Int(event.key & 0xFFFF)] { accept(listener) }
        } else if let connection = connection(ConnectionKey(rawValue: event.key)) {
            connection.ready(event.ready)
        }
    }

    func connection(_ key: ConnectionKey) -> Connection? {
        guard connections.indices.contains(key.slot), let connection = connections[key.slot], connection.key == key else {
            return nil
        }
        return connection
    }

    /// The Date header of this second (RFC 9110 §6.6.1).
    func currentDate() -> String {
        let unix = MonotonicTime.unixNanoseconds
        if unix / 1_000_000_000 != dateSecond {
            dateSecond = unix / 1_000_000_000
            date = CivilTime(unixNanoseconds: unix).httpDate
        }
        return date
    }

    // MARK: Accepting

    /// - Parameter limit: a few at a time, so that a burst of new connections does not starve those that are there.
    private func accept(_ listener: Listener, atMost limit: Int = 16) {
        for _ in 0..<limit {
            switch listener.accept() {
            case .connection(let socket, let peer):
                if listener.admit(peer) {
                    place(socket, from: peer, listener)
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
        // It is tried again and again, and said once.
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

    /// Takes a connection in.
    ///
    /// - Parameter limit: why it is only told to come again; nil when it is served.
    func add(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, refusedBy limit: SenderLimit? = nil) {
        nextGeneration &+= 1
        let slot = free.popLast() ?? connections.count
        if slot == connections.count { connections.append(nil) }
        let key = ConnectionKey(loop: number, generation: nextGeneration, slot: slot)
        let connection = Connection(Transport(socket), from: peer, key: key, listener: listener, table: self, refusedBy: limit)
        connections[slot] = connection
        count += 1
        guard watch(connection) else { return }
        if nextSweep == .never { nextSweep = now + sweepInterval }
        if limit == nil { becameIdle(connection, .silent) }
        connection.start()
    }

    /// Waits for what a connection's peer sends.
    ///
    /// - Returns: false when that is not possible; the connection has been closed then.
    func watch(_ connection: Connection) -> Bool {
        do throws(SystemError) {
            try poller.add(connection.transport.number, .readable, key: connection.key.rawValue)
            return true
        } catch {
            // Not watched, the connection would hang; closing it tells the sender at once.
            connection.close()
            return false
        }
    }

    /// Has the poller forget a connection's socket, before another thread uses it.
    func unwatch(_ connection: Connection) { poller.remove(connection.transport.number) }

    /// Forgets a connection, which closes its socket.
    func remove(_ connection: Connection) {
        guard self.connection(connection.key) != nil else { return }
        connections[connection.key.slot] = nil
        free.append(connection.key.slot)
        count -= 1
        if count == 0 { (connections, free) = ([], []) }
    }

    func setInterest(_ interest: Poller.Interest, of connection: Connection, _ descriptor: Int32) {
        do throws(SystemError) {
            try poller.modify(descriptor, interest, key: connection.key.rawValue)
        } catch { connection.close() }
    }

    // MARK: Time

    /// How many certificates of idle clients are verified again in one round.
    private static let mostReviews = 32

    private func sweep() {
        var reviews = 0
        for case let connection? in connections {
            connection.checkDeadline(now)
            // To verify a certificate again takes a while; the rest has its turn next time, or with its next request.
            if connection.closeIfOutdated(mayVerify: reviews < Self.mostReviews) { reviews += 1 }
        }
        let waiting = paused
        paused = []
        for key in waiting { connection(key)?.resume() }
        nextSweep = count == 0 ? .never : now + (paused.isEmpty ? sweepInterval : min(sweepInterval, .milliseconds(5)))
    }

    /// Makes sure that a deadline nearer than the next sweep is not missed by much.
    func expect(_ deadline: MonotonicTime) { nextSweep = min(nextSweep, deadline) }

    /// Gives a connection another turn after the others, for bytes that the poller does not see.
    func readAgain(_ connection: Connection) { unread.append(connection.key) }

    private func readUnread() {
        let waiting = unread
        unread = []
        for key in waiting { connection(key)?.ready(.readable) }
    }

    /// Looks at a connection again that waits for room for its body.
    func pause(_ connection: Connection) {
        paused.append(connection.key)
        nextSweep = min(nextSweep, now + .milliseconds(5))
    }

    // MARK: From other threads

    func reply(_ key: ConnectionKey, request: UInt32, _ response: Response) {
        connection(key)?.reply(request: request, response)
    }

    /// Takes what the kernel has accepted for us, which was in flight before we stopped, and then no more.
    func stopAccepting() {
        for listener in listeners { if let listener { accept(listener, atMost: .max) } }
        isDraining = true
        for listener in listeners { listener?.descriptor.map { poller.remove($0) } }
    }

    func drain(_ done: @escaping () -> Void) {
        drained = done
        for connection in connections { connection?.closeIfIdle() }
    }

    /// Answers 503 to what is still arriving.
    ///
    /// - Parameter listeners: those it came to; nil is all of them.
    func refuseRest(of listeners: [Listener]? = nil, because why: String) {
        for connection in connections {
            guard let connection, listeners?.contains(where: { $0 === connection.listener }) != false else { continue }
            connection.refuse(because: why)
        }
    }

    func stop() {
        isStopped = true
        for listener in listeners { listener?.share.leave(number) }
        for connection in connections { connection?.close() }
        handshakeThread.stop()
    }
}
