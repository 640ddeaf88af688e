import LinuxSystem
import Telemetry

/// The TLS handshakes of one event loop that are under way. Peer addresses take turns, so that one that opens many connections
/// delays only its own. On the thread of the loop only.
final class Handshakes {
    /// Connections whose handshakes can continue.
    private var due = FairQueue<ConnectionKey>(order: .oldestFirst)
    private var dueCount = 0
    /// Connections whose handshakes hold memory, the oldest first; some of the handshakes may have ended since.
    private var begun: [(key: ConnectionKey, peer: PeerAddress)] = []

    var areDue: Bool { dueCount > 0 }

    func append(_ key: ConnectionKey, from peer: PeerAddress) {
        _ = due.append(key, lanes: [peer.description])
        dueCount += 1
    }

    func takeDue() -> ConnectionKey? {
        guard let key = due.next() else { return nil }
        dueCount -= 1
        return key
    }

    /// Notes that a handshake holds memory from now on.
    func began(_ key: ConnectionKey, from peer: PeerAddress, isUnderWay: (ConnectionKey) -> Bool) {
        begun.removeFirst(begun.prefix { !isUnderWay($0.key) }.count)
        begun.append((key, peer))
    }

    /// Removes and returns the handshake that has been under way for longest, of the peer address that has the most.
    func takeOldest(isUnderWay: (ConnectionKey) -> Bool) -> ConnectionKey? {
        begun.removeAll { !isUnderWay($0.key) }
        var counts: [PeerAddress: Int] = [:]
        for (_, peer) in begun { counts[peer, default: 0] += 1 }
        guard let most = counts.values.max(), let index = begun.firstIndex(where: { counts[$0.peer] == most }) else { return nil }
        return begun.remove(at: index).key
    }
}

extension ConnectionTable {
    /// Begins the next step of a handshake, after everything that others have sent, if its turn has come.
    func beginNextHandshakeStep() {
        guard nextHandshakeTurn <= now else { return }
        if let late = handshakeThread.takeLate(now: now) { return make(late) }
        for _ in 0..<Self.mostRefusals {
            guard let key = handshakes.takeDue() else { return }
            // A connection that was closed, or only had to be closed or refused, does not use the turn up.
            guard let step = connection(key)?.beginHandshakeStep() else { continue }
            if !handshakeThread.accept(step) { make(step) }
            return
        }
    }

    /// The most connections without a handshake that are closed or refused in one round.
    private static let mostRefusals = 64

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
    func beganHandshake(_ connection: Connection) { handshakes.began(connection.key, from: connection.peer, isUnderWay: isUnderWay) }

    /// Closes the connection whose handshake has been under way for longest, of the peer address that has the most: an honest
    /// client has few, and finishes them quickly.
    func makeRoomForHandshake() {
        guard let key = handshakes.takeOldest(isUnderWay: isUnderWay), let connection = connection(key) else { return }
        connection.listener.counters.madeRoom.add()
        connection.close()
    }
}
