import LinuxSystem
import Synchronization

/// Connections of one listener in one loop that have no request for the same reason, in the order in which they became so.
///
/// The links are in the connections, so that joining and leaving cost the same however many there are.
final class IdleConnections {
    let listener: Listener
    let kind: IdleKind
    private(set) var first: Connection?
    private var last: Connection?

    init(_ listener: Listener, _ kind: IdleKind) { (self.listener, self.kind) = (listener, kind) }

    /// Since when the first has been idle.
    var since: MonotonicTime { first?.idleLinks.since ?? .never }

    /// Adds a connection behind the others.
    func append(_ connection: Connection, _ now: MonotonicTime) {
        connection.idleLinks = IdleLinks(list: self, since: now, previous: last)
        if let last { last.idleLinks.next = connection } else { first = connection }
        last = connection
    }

    /// Takes a connection out that is in it.
    func remove(_ connection: Connection) {
        let links = connection.idleLinks
        connection.idleLinks = IdleLinks()
        if let previous = links.previous { previous.idleLinks.next = links.next } else { first = links.next }
        if let next = links.next { next.idleLinks.previous = links.previous } else { last = links.previous }
    }
}

/// A connection's place among those without a request.
struct IdleLinks {
    /// nil while it has one.
    var list: IdleConnections?
    var since = MonotonicTime.never
    var previous: Connection?
    var next: Connection?
}

/// How connections without a request make room for new ones.
///
/// A new connection goes to the loop that has the one which has been idle for longest, and takes its place there: so no loop
/// waits for another one, and none touches another one's connections.
extension ConnectionTable {
    // MARK: Which have none

    private func idleConnections(of listener: Listener, _ kind: IdleKind) -> IdleConnections {
        if let known = idleConnections.first(where: { $0.listener === listener && $0.kind == kind }) { return known }
        let new = IdleConnections(listener, kind)
        idleConnections.append(new)
        return new
    }

    /// Notes that a connection has no request: it may make room for another one.
    func becameIdle(_ connection: Connection, _ kind: IdleKind) {
        let list = idleConnections(of: connection.listener, kind)
        list.append(connection, now)
        if kind == .silent { countSilent(1, list.listener) }
        if list.first === connection { publish(list) }
    }

    /// Notes that a request has begun, or that the connection ends.
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

    /// Tells the other loops since when the longest idle connection here has been so.
    private func publish(_ list: IdleConnections) {
        list.listener.idle.publish(list.since, list.kind, of: number)
        let oldest = idleConnections.lazy.filter { $0.kind == list.kind }.map(\.since).min()
        list.listener.share.idle.publish(oldest ?? .never, list.kind, of: number)
    }

    // MARK: Who makes room

    /// How often a new connection goes on to another loop, where those are meanwhile busy that were idle.
    private static let mostHops = 4

    /// Serves a connection that was accepted; where there is no room, another one makes it, and where none can, it is refused.
    func place(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, hops: Int = 0) {
        let share = listener.share
        while true {
            if listener.admitConnection() { return add(socket, from: peer, listener) }
            // A full listener's own connections, for those of others would go in vain.
            let full = listener.isFull ? listener : nil
            let board = full?.idle ?? share.idle
            let kinds = board.kindsToClose(full?.service.http.connLimit ?? share.room)
            let next = board.oldestLoop(kinds)
            let other = hops < Self.mostHops && !isDraining && next != number ? next.flatMap { share.loop($0) } : nil
            // Where it came from, another loop's may be older.
            if hops > 0 || other == nil, makeRoom(kinds, full) { continue }
            // On its way it is one of those that are refused.
            if let other, share.take(.refused) { return hand(socket, from: peer, listener, to: other, hops: hops + 1) }
            // Where too many are on their way, one that is here does as well.
            if other != nil, makeRoom(kinds, full) { continue }
            listener.release(peer)
            return refuse(socket, from: peer, listener, full == nil ? .descriptors : .all)
        }
    }

    /// Tells a connection to come again, or just closes it where there is no room to tell.
    ///
    /// With TLS it is closed: to be told it would have to shake hands first, which costs more than to be served.
    func refuse(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, _ limit: SenderLimit) {
        listener.counters.refused[limit]?.add()
        guard listener.service.guards.certificates == nil, listener.share.take(.refused) else { return }
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

    /// Closes the connection that has been without a request for longest, of one listener or of all.
    ///
    /// - Returns: false when there is none.
    private func makeRoom(_ kinds: [IdleKind], _ listener: Listener?) -> Bool {
        // One whose request has just come is served instead, and may be without one again.
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

/// A socket on its way to another loop.
private final class Parcel: Sendable {
    private let socket: Mutex<FileDescriptor?>

    init(_ socket: consuming FileDescriptor) { self.socket = Mutex(socket) }

    func take() -> FileDescriptor? { socket.withLock { $0.take() } }
}
