import LinuxSystem

/// A connection of the writer's own client; on the thread of the transfers only.
final class PlainConnection: SocketOwner {
    let socket: Int32
    let address: SocketAddress
    /// Refers to the connection while that is idle; ``PlainPool/close(_:)`` and ``PlainPool/end()`` break the cycle.
    private let pool: PlainPool
    private let sockets: SocketWatcher
    /// The request on it; nil while it is idle.
    var exchange: PlainExchange?
    var isConnecting = true
    /// Whether it has carried a request before.
    var isReused = false
    /// False once something came that belongs to no request, or the rest of a request was not sent.
    var canBeKept = true
    /// Whether the server will send nothing more.
    var hasEnded = false
    private var interest: Poller.Interest = []

    init(_ socket: Int32, _ address: SocketAddress, _ pool: PlainPool, _ sockets: SocketWatcher) {
        (self.socket, self.address, self.pool, self.sockets) = (socket, address, pool, sockets)
    }

    /// Waits for these events; the socket stays in epoll while it is idle, which saves system calls.
    func wait(for events: Poller.Interest) {
        guard events != interest else { return }
        interest = events
        sockets.watch(socket, events, of: self)
    }

    func act(_ socket: Int32, _ ready: Poller.Interest) { pool.act(self, ready) }
}
