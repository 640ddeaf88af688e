import LinuxSystem
import Synchronization

/// Spreading connections over the event loops.
///
/// The loops share a listening socket, and a loop that is awake accepts what has come, so that of connections that are opened
/// together most would be one loop's. A socket for each loop (`SO_REUSEPORT`) would spread by a hash of the addresses, which leaves
/// some loops with twice the connections of others when there are few, and loses what waits in a socket that is closed. So the loop
/// that accepts hands a connection to the one that has fewest.
extension ConnectionTable {
    /// Serves an admitted connection here, or in a loop that has fewer.
    ///
    /// - Parameter spreads: false while a listener closes, when the connection stays here.
    func serve(_ socket: consuming FileDescriptor, from peer: PeerAddress, _ listener: Listener, spreads: Bool) {
        guard spreads, let other = listener.share.lessLoaded(than: loop) else { return add(socket, from: peer, listener) }
        // Counted there at once, so that a burst does not go to one loop.
        other.load.wrappingAdd(1, ordering: .relaxed)
        let parcel = Parcel(socket)
        other.post { table in
            table.loop.load.wrappingSubtract(1, ordering: .relaxed)
            if let socket = parcel.take() { table.add(socket, from: peer, listener) }
        }
    }
}

/// A socket that is passed to another loop.
final class Parcel: Sendable {
    private let socket: Mutex<FileDescriptor?>

    init(_ socket: consuming FileDescriptor) { self.socket = Mutex(socket) }

    func take() -> FileDescriptor? { socket.withLock { $0.take() } }
}
