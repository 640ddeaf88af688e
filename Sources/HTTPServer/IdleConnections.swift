import LinuxSystem
import Telemetry

/// The idle connections of one listener and one kind in one loop, in the order in which they became idle.
///
/// The links of the list are in the connections, so that adding and removing take constant time.
final class IdleConnections {
    let listener: Listener
    let kind: IdleKind
    private(set) var first: Connection?
    private var last: Connection?

    init(_ listener: Listener, _ kind: IdleKind) { (self.listener, self.kind) = (listener, kind) }

    /// When the first connection became idle; `never` when the list is empty.
    var since: MonotonicTime { first?.idleLinks.since ?? .never }

    /// Appends a connection.
    func append(_ connection: Connection, _ now: MonotonicTime) {
        connection.idleLinks = IdleLinks(list: self, since: now, previous: last)
        if let last { last.idleLinks.next = connection } else { first = connection }
        last = connection
    }

    /// Removes a connection, which must be in this list.
    func remove(_ connection: Connection) {
        let links = connection.idleLinks
        connection.idleLinks = IdleLinks()
        if let previous = links.previous { previous.idleLinks.next = links.next } else { first = links.next }
        if let next = links.next { next.idleLinks.previous = links.previous } else { last = links.previous }
    }
}

/// A connection's links in a list of idle connections.
struct IdleLinks {
    /// nil while the connection has a request.
    var list: IdleConnections?
    var since = MonotonicTime.never
    var previous: Connection?
    var next: Connection?
}

/// Closing idle connections to make room for new ones.
///
/// A new connection is passed to the loop that has the longest idle connection, and replaces that one there, so that no loop
/// waits for another loop or touches its connections.
extension ConnectionTable {
    // MARK: Lists of idle connections

    private func idleConnections(of listener: Listener, _ kind: IdleKind) -> IdleConnections {
        if let known = idleConnections.first(where: { $0.listener === listener && $0.kind == kind }) { return known }
        let new = IdleConnections(listener, kind)
        // Assigned as a whole, because a change in place would make each use of the array a checked access.
        idleConnections = idleConnections + [new]
        return new
    }

    /// Notes that a connection has no request, so that it may be closed to make room.
    func becameIdle(_ connection: Connection, _ kind: IdleKind) {
        let list = idleConnections(of: connection.listener, kind)
        list.append(connection, now)
        if kind == .silent { countSilent(1, list.listener) }
        if list.first === connection { publish(list) }
    }

    /// Notes that a connection's request has begun, or that the connection closes.
    func becameBusy(_ connection: Connection) {
        guard let list = connection.idleLinks.list else { return }
        let wasFirst = list.first === connection
        list.remove(connection)
        if list.kind == .silent { countSilent(-1, list.listener) }
        if wasFirst { publish(list) }
    }

    private func countSilent(_ change: Int, _ listener: Listener) {
        listener.idle.countSilent(change)
        listener.share.idle.countSilent(change)
    }

    /// Publishes to the other loops when the longest idle connection of this loop became idle.
    private func publish(_ list: IdleConnections) {
        var oldest = list.since
        list.listener.idle.publish(oldest, list.kind, of: number)
        for other in idleConnections where other !== list && other.kind == list.kind { oldest = min(oldest, other.since) }
        list.listener.share.idle.publish(oldest, list.kind, of: number)
    }

    // MARK: Making room

    /// The most times that a new connection is passed on to another loop, in case the idle connections there have become busy
    /// meanwhile.
    private static let mostHops = 4

    /// Serves an accepted connection. When there is no room, an idle connection is closed for it; when there is none, the new
    /// connection is refused.
    ///
    /// - Parameter spreads: whether another loop may serve it that has fewer connections.
    func place(
        _ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, hops: Int = 0, spreads: Bool = false
    ) {
        let share = listener.share
        while true {
            if listener.admitConnection() { return serve(socket, from: peer, listener, spreads: spreads) }
            // A full listener must close one of its own connections; closing those of other listeners would not help.
            let full = listener.isFull ? listener : nil
            let board = full?.idle ?? share.idle
            let kinds = board.kindsToClose(full?.service.http.connLimit ?? share.room)
            let next = board.oldestLoop(kinds)
            let other = hops < Self.mostHops && !isDraining && next != number ? next.flatMap { share.loop($0) } : nil
            // In the loop that accepted the connection, another loop's idle connection may be older; after a hop, this loop's own
            // are tried first.
            if hops > 0 || other == nil, makeRoom(kinds, full) { continue }
            // While it is passed on, it counts as a refused connection.
            if let other, share.reserve(.refused) { return hand(socket, from: peer, listener, to: other, hops: hops + 1) }
            // When too many connections are being passed on, an idle connection of this loop is closed instead.
            if other != nil, makeRoom(kinds, full) { continue }
            listener.release(peer)
            return refuse(socket, from: peer, listener, full == nil ? .descriptors : .all)
        }
    }

    /// Answers 503 to a connection, or just closes it when there is no room for that.
    ///
    /// With TLS it is always closed: an answer would need a handshake first, which costs more than serving the connection.
    func refuse(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, _ limit: SenderLimit) {
        listener.counters.refused[limit]?.add()
        guard listener.service.security.certificates == nil, listener.share.reserve(.refused) else { return }
        add(socket, from: peer, listener, refusedBy: limit)
    }

    private func hand(
        _ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, to loop: EventLoop, hops: Int
    ) {
        let parcel = Parcel(socket)
        loop.post { table in
            listener.share.release(.refused)
            if let socket = parcel.take() { table.place(socket, from: peer, listener, hops: hops) }
        }
    }

    /// Closes the connection that has been idle for longest, of one listener or of all.
    ///
    /// - Returns: false when there is none.
    private func makeRoom(_ kinds: [IdleKind], _ listener: Listener?) -> Bool {
        // A connection whose request has just arrived is served instead, and may become idle again, so the number of attempts is
        // bounded.
        for _ in 0...count {
            let lists = idleConnections.filter { kinds.contains($0.kind) && (listener == nil || $0.listener === listener) }
            guard let oldest = lists.min(by: { $0.since < $1.since })?.first else { return false }
            oldest.closeIfIdle()
            guard !oldest.isClosed else {
                oldest.listener.counters.madeRoom.add()
                return true
            }
        }
        return false
    }
}
