import LinuxSystem

/// The TLS handshakes of one event loop that are under way.
struct Handshakes {
    /// Those that can go on, in the order in which they could.
    private var due: [ConnectionKey] = []
    /// Those that hold memory, the oldest first; some have come to their end since.
    private var begun: [ConnectionKey] = []

    var areDue: Bool { !due.isEmpty }

    mutating func append(_ key: ConnectionKey) { due.append(key) }

    mutating func takeDue() -> ConnectionKey? { due.isEmpty ? nil : due.removeFirst() }

    /// Notes that one holds memory from now on.
    mutating func began(_ key: ConnectionKey, isUnderWay: (ConnectionKey) -> Bool) {
        begun.removeFirst(begun.prefix { !isUnderWay($0) }.count)
        begun.append(key)
    }

    /// Takes out the one that has been under way for longest.
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
    /// Begins the next step of a handshake, after all that others have sent, where its turn has come.
    func beginNextHandshakeStep() {
        while nextHandshakeTurn <= now, let key = handshakes.takeDue() {
            // One that was closed meanwhile takes no turn.
            guard let step = connection(key)?.beginHandshakeStep() else { continue }
            if !handshakeThread.take(step, now: now) {
                step.make()
                takeBack(step)
            }
            return
        }
    }

    /// When the next handshake can go on.
    var nextHandshakeTurn: MonotonicTime { handshakes.areDue ? handshakeThread.nextTurn(now: now) : .never }

    func handshakeStepEnded(_ step: HandshakeStep) {
        handshakeThread.becomesFree(now: now)
        takeBack(step)
    }

    private func takeBack(_ step: HandshakeStep) {
        // Where the connection has been closed meanwhile, its socket closes with the step.
        connection(step.key)?.endHandshakeStep(step.takeTransport(), step.result)
    }

    private func isUnderWay(_ key: ConnectionKey) -> Bool { connection(key)?.isShakingHands == true }

    /// Notes that a handshake holds memory from now on.
    func beganHandshake(_ connection: Connection) { handshakes.began(connection.key, isUnderWay: isUnderWay) }

    /// Closes the connection whose handshake has been under way for longest, where there is one: who means it well has long
    /// finished.
    func makeRoomForHandshake() {
        guard let key = handshakes.takeOldest(isUnderWay: isUnderWay), let connection = connection(key) else { return }
        connection.listener.counters.madeRoom.add()
        connection.close()
    }
}
