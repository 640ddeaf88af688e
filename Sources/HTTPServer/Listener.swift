package import LinuxSystem
import Synchronization
package import Telemetry

/// One listening socket, shared by the event loops that accept from it.
///
/// A reload may change the service; socket, connections and counts stay.
package final class Listener: Sendable {
    /// What the listener serves under one config; a request keeps the service that it began with.
    package final class Service: Sendable {
        package let http: HTTPConfig
        package let security: Security
        let routes: any Routes

        package init(_ http: HTTPConfig, security: Security, routes: any Routes) {
            (self.http, self.security, self.routes) = (http, security, routes)
        }
    }

    package let name: String
    let bodies: BodyBudget
    package let counters: ListenerCounters
    /// The share of descriptors that its connections belong to.
    let share: ConnectionShare
    private let addresses = AddressCounts()
    /// The idle times of its connections.
    let idle = IdleBoard()
    /// The port in use; differs from the configured one when that is 0. A Unix socket has 0.
    package let port: UInt16
    private let socket: Mutex<ListeningSocket?>
    private let connections = Atomic<Int>(0)
    private let lacksRoom = Atomic<Bool>(false)
    private let current: Mutex<Service>
    private let closing = Atomic<Bool>(false)

    /// Starts listening; connections wait in the kernel until a loop accepts.
    ///
    /// - Parameters:
    ///   - share: the share of descriptors that its connections belong to.
    ///   - other: a listener at the same address that is about to close; both share the socket, so that no connection is refused
    ///     between them.
    package init(
        _ name: String, _ service: Service, bodies: BodyBudget, counters: ListenerCounters,
        share: ConnectionShare, sharing other: Listener? = nil
    ) throws(SystemError) {
        self.name = name
        self.bodies = bodies
        self.counters = counters
        self.share = share
        current = Mutex(service)
        let opened = try Self.open(service.http, other)
        port = opened.port
        socket = Mutex(consume opened)
    }

    private static func open(_ http: HTTPConfig, _ other: Listener?) throws(SystemError) -> ListeningSocket {
        let shared = try other?.socket.withLock { (socket) throws(SystemError) in try socket?.share() }
        if let shared { return shared }
        return try ListeningSocket(http)
    }

    /// The current service.
    package var service: Service { current.withLock { $0 } }

    /// Changes the service, for requests that begin from now on.
    package func serve(_ new: Service) {
        current.withLock { $0 = new }
        guard new.http.socketPath != nil else { return }
        // The socket may be another listener's, with its mode.
        socket.withLock { $0?.set(mode: new.http.socketMode, listener: name) }
    }

    /// Whether its connections close after their current request.
    var isClosing: Bool { closing.load(ordering: .relaxed) }

    package func beginClosing() { closing.store(true, ordering: .relaxed) }

    /// The number of the listening socket; nil after ``close()``.
    var descriptor: Int32? { socket.withLock { $0?.descriptor.number } }

    /// Accepts the next waiting connection; the lock keeps the socket from being closed meanwhile.
    func accept() -> Socket.Accepted {
        socket.withLock { socket in
            guard let number = socket?.descriptor.number else { return .none }
            return Socket.accept(number)
        }
    }

    /// Notes whether there was room to accept one more connection.
    ///
    /// - Returns: true when this has changed, over all loops together.
    func noteRoom(_ hasRoom: Bool) -> Bool { lacksRoom.exchange(!hasRoom, ordering: .relaxed) == hasRoom }

    /// The number of connections that it serves now.
    package var connectionCount: Int { connections.load(ordering: .relaxed) }

    /// Whether `conn_limit` has been reached.
    var isFull: Bool {
        let limit = service.http.connLimit
        return limit != 0 && connectionCount >= limit
    }

    /// Counts one more connection from an address; false when `conn_limit_per_address` has been reached, and the connection is
    /// not counted then. A trusted proxy has connections of many senders, and no limit.
    func admit(_ peer: PeerAddress) -> Bool {
        let http = service.http
        return addresses.admit(peer, limit: http.trustedProxies.contains(peer) ? 0 : http.connLimitPerAddress)
    }

    /// Counts a connection for another address than before; false when that has more than `conn_limit_per_address` now.
    func move(_ peer: PeerAddress, to other: PeerAddress) -> Bool {
        addresses.release(peer)
        return admit(other) || !addresses.admit(other, limit: 0)
    }

    /// Counts one connection fewer from an address.
    func release(_ peer: PeerAddress) { addresses.release(peer) }

    /// Counts one more connection, for the listener and for the share; false when `conn_limit` or the share's limit has been
    /// reached, and the connection is not counted then.
    func admitConnection() -> Bool {
        guard share.reserve(.served) else { return false }
        let count = connections.wrappingAdd(1, ordering: .relaxed).newValue
        let limit = service.http.connLimit
        if limit == 0 || count <= limit { return true }
        connectionEnded(wasAdmitted: true)
        return false
    }

    /// Counts one connection fewer, for the listener and for the share.
    func connectionEnded(wasAdmitted: Bool) {
        if wasAdmitted { connections.wrappingSubtract(1, ordering: .relaxed) }
        share.release(wasAdmitted ? .served : .refused)
    }

    /// Stops listening; connections that are still queued in the kernel are reset.
    package func close() { socket.withLock { $0 = nil } }
}

/// The counters of a listener.
package final class ListenerCounters: Sendable {
    package let bytes = Counter()
    let failedHandshakes = Counter()
    let refusals = RefusalLog()
    /// Idle connections that were closed to make room for another one.
    let madeRoom = Counter()
    /// Refused connections, by the limit that had been reached.
    package let refused: [SenderLimit: Counter] = Dictionary(uniqueKeysWithValues: SenderLimit.allCases.map { ($0, Counter()) })
    /// The statuses that the gateway itself answers, each with a counter, so that counting takes no lock.
    private let usual: [Int: Counter]
    /// Other statuses, which come from destinations with `ack: delivered`.
    private let unusual = Mutex<[Int: Int]>([:])

    package init() {
        let known = [200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 500, 501, 503, 504, 505]
        usual = Dictionary(uniqueKeysWithValues: known.map { ($0, Counter()) })
    }

    func answered(_ status: Int) {
        if let counter = usual[status] { return counter.add() }
        unusual.withLock { $0[status, default: 0] += 1 }
    }

    /// The statuses that were answered at least once.
    package var answers: [(status: Int, count: Int)] {
        let known = usual.map { ($0.key, $0.value.value) }.filter { $0.1 > 0 }
        return (known + unusual.withLock { $0.map { ($0.key, $0.value) } }).sorted { $0.0 < $1.0 }
    }
}
