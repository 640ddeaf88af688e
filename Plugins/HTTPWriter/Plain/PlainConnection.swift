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
    /// The connection that became idle before it, of those that are idle too.
    fileprivate var earlierIdle: PlainConnection?

    init(_ socket: Int32, _ address: SocketAddress, _ pool: PlainPool, _ sockets: SocketWatcher) {
        (self.socket, self.address, self.pool, self.sockets) = (socket, address, pool, sockets)
    }

    /// Waits for these events; the socket stays watched while it is idle, which saves system calls.
    func wait(for events: Poller.Interest) {
        guard events != interest else { return }
        interest = events
        sockets.watch(socket, events, of: self)
    }

    /// The size of the buffer for answers; most are much shorter.
    private static let bufferSize = 16 << 10

    /// Receives what is there into `buffer`, which is made when it is empty.
    func receive(into buffer: inout [UInt8]) -> LinuxSystem.Transfer {
        if buffer.isEmpty { buffer = [UInt8](repeating: 0, count: Self.bufferSize) }
        return Socket.receive(socket, into: &buffer, atMost: Self.bufferSize)
    }

    func act(_ socket: Int32, _ ready: Poller.Interest) { pool.act(self, ready) }
}

/// The connections of a pool that wait for a request; on the thread of the transfers only.
final class IdlePlainConnections {
    private var latest: PlainConnection?
    private(set) var count = 0

    func add(_ connection: PlainConnection) {
        (connection.earlierIdle, latest) = (latest, connection)
        count += 1
    }

    /// Removes and returns the connection that was used last; nil when there is none.
    func takeLatest() -> PlainConnection? {
        guard let connection = latest else { return nil }
        (latest, connection.earlierIdle) = (connection.earlierIdle, nil)
        count -= 1
        return connection
    }

    /// The connection that has been idle for longest.
    var oldest: PlainConnection? {
        var connection = latest
        while let earlier = connection?.earlierIdle { connection = earlier }
        return connection
    }

    /// Removes a connection, if it is there.
    func remove(_ connection: PlainConnection) {
        var (later, next) = (PlainConnection?.none, latest)
        while let other = next, other !== connection { (later, next) = (other, other.earlierIdle) }
        guard next != nil else { return }
        if let later { later.earlierIdle = connection.earlierIdle } else { latest = connection.earlierIdle }
        connection.earlierIdle = nil
        count -= 1
    }
}
