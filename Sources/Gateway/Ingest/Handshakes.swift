import LinuxSystem

/// The TLS handshakes of one event loop that are under way.
struct Handshakes {
    /// Connections whose handshakes can continue, in the order in which they became ready.
    private var due: [ConnectionKey] = []
    /// Connections whose handshakes hold memory, the oldest first; some of the handshakes may have ended since.
    private var begun: [ConnectionKey] = []

    var areDue: Bool { !due.isEmpty }

    mutating func append(_ key: ConnectionKey) { due.append(key) }

    mutating func takeDue() -> ConnectionKey? { due.isEmpty ? nil : due.removeFirst() }

    /// Notes that a handshake holds memory from now on.
    mutating func began(_ key: ConnectionKey, isUnderWay: (ConnectionKey) -> Bool) {
        begun.removeFirst(begun.prefix { !isUnderWay($0) }.count)
        begun.append(key)
    }

    /// Removes and returns the handshake that has been under way for longest.
    mutating func takeOldest(isUnderWay: (ConnectionKey) -> Bool) -> ConnectionKey? {
        guard let index = begun.firstIndex(where: isUnderWay) else {
            begun = []
            return nil
        }
        defer { begun.removeFirst(index + 1) }
        return begun[index]
    }
}

extension ConnectionTable {
    /// Begins the next step of a handshake, after everything that others have sent, if its turn has come.
    func beginNextHandshakeStep() {
        guard nextHandshakeTurn <= now else { return }
        if let late = handshakeThread.takeLate(now: now) { return make(late) }
        while let key = handshakes.takeDue() {
            // A connection that was closed meanwhile has no turn.
            guard let step = connection(key)?.beginHandshakeStep() else { continue }
            if !handshakeThread.take(step) { make(step) }
            return
        }
    }

    /// The next time at which something is to be done for handshakes.
    var nextHandshakeTurn: MonotonicTime { handshakeThread.nextTurn(handshakes.areDue, now: now) }

    /// Goes on with the connection whose step the thread has made, if it has made one.
    func takeMadeHandshakeStep() {
        if let step = handshakeThread.takeMade() { end(step) }
    }

    private func make(_ step: HandshakeStep) {
        step.make()
        end(step)
    }

    private func end(_ step: HandshakeStep) {
        // If the connection was closed meanwhile, its socket closes with the step.
        connection(step.key)?.endHandshakeStep(step.takeTransport(), step.result)
    }

    private func isUnderWay(_ key: ConnectionKey) -> Bool { connection(key)?.isShakingHands == true }

    /// Notes that a handshake holds memory from now on.
    func beganHandshake(_ connection: Connection) { handshakes.began(connection.key, isUnderWay: isUnderWay) }

    /// Closes the connection whose handshake has been under way for longest, if there is one; a well-behaved client would have
    /// finished long ago.
    func makeRoomForHandshake() {
        guard let key = handshakes.takeOldest(isUnderWay: isUnderWay), let connection = connection(key) else { return }
        connection.listener.counters.madeRoom.add()
        connection.close()
    }
}
