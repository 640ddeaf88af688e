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
    /// Begins the next step of a handshake if its turn has come; called after the round's other events have been handled.
    func beginNextHandshakeStep() {
        while nextHandshakeTurn <= now, let key = handshakes.takeDue() {
            // A connection that was closed meanwhile takes no turn.
            guard let step = connection(key)?.beginHandshakeStep() else { continue }
            if !handshakeThread.take(step, now: now) {
                step.make()
                takeBack(step)
            }
            return
        }
    }

    /// When the next handshake step can be made; `never` when none waits.
    var nextHandshakeTurn: MonotonicTime { handshakes.areDue ? handshakeThread.nextTurn(now: now) : .never }

    func handshakeStepEnded(_ step: HandshakeStep) {
        handshakeThread.becomesFree(now: now)
        takeBack(step)
    }

    private func takeBack(_ step: HandshakeStep) {
        // If the connection has been closed meanwhile, its socket closes with the step.
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
