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
    /// How often a new connection goes on to another loop, where those are meanwhile busy that were idle.
    private static let mostHops = 4

    /// Serves a connection that was accepted and is counted by its listener's share; where there is no room, another one
    /// makes it, and where none can, it is told to come again, or just closed when there is no room to tell.
    func place(_ socket: consuming FileDescriptor, _ listener: Listener, hops: Int = 0) {
        let share = listener.share
        while true {
            let isListenerFull = listener.isFull
            if !isListenerFull, !share.isExceeded, listener.admitConnection() { return add(socket, listener, isAdmitted: true) }
            let board = isListenerFull ? listener.idle : share.idle
            let kinds = board.kindsToClose(isListenerFull ? listener.service.http.connLimit : share.room)
            let next = board.oldestLoop(kinds)
            let other = hops < Self.mostHops && !isDraining && next != number ? next.flatMap { share.loop($0) } : nil
            // Where it came from, another loop's may be older.
            if hops > 0 || other == nil, makeRoom(kinds, isListenerFull ? listener : nil) { continue }
            guard let other else { break }
            return hand(socket, listener, to: other, hops: hops + 1)
        }
        if share.isFarExceeded { return share.connectionEnded() }
        add(socket, listener, isAdmitted: false)
    }

    private func hand(_ socket: consuming FileDescriptor, _ listener: Listener, to loop: EventLoop, hops: Int) {
        let parcel = Parcel(socket)
        loop.post { table in
            if let socket = parcel.take() { table.place(socket, listener, hops: hops) }
        }
    }

    /// Closes the connection that has been without a request for longest, of one listener or of all.
    ///
    /// - Returns: false when there is none.
    private func makeRoom(_ kinds: [IdleKind], _ listener: Listener?) -> Bool {
        // One whose request has just come is served instead, and may be without one again.
        for _ in 0...connectionCount {
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
