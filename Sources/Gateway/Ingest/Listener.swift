import LinuxSystem
import Synchronization

/// One listening socket, shared by the event loops that accept from it.
///
/// Socket, connections and counts stay when a reload changes what is served on it.
final class Listener: Sendable {
    /// What is served, as one config has it; a request keeps the one that it began with.
    final class Service: Sendable {
        let http: HTTPConfig
        let guards: Guards
        let routes: any Routes

        init(_ http: HTTPConfig, guards: Guards, routes: any Routes) {
            (self.http, self.guards, self.routes) = (http, guards, routes)
        }
    }

    let name: String
    let bodies: BodyBudget
    let counters: ListenerCounters
    /// The descriptors that its connections are of.
    let share: ConnectionShare
    private let addresses = AddressCounts()
    /// Its connections without a request.
    let idle = IdleBoard()
    /// The port it got; differs from the configured one when that is 0.
    let port: UInt16
    private let socket: Mutex<FileDescriptor?>
    private let connections = Atomic<Int>(0)
    private let lacksRoom = Atomic<Bool>(false)
    private let current: Mutex<Service>
    private let closing = Atomic<Bool>(false)

    /// Starts listening; connections wait in the kernel until a loop accepts.
    ///
    /// - Parameters:
    ///   - share: the descriptors that its connections are of.
    ///   - other: a listener at the same address, which is to end: they share the socket, so that nobody is refused between
    ///     them.
    init(
        _ name: String, _ service: Service, bodies: BodyBudget, counters: ListenerCounters,
        share: ConnectionShare = Descriptors.process.senders, sharing other: Listener? = nil
    ) throws(SystemError) {
        self.name = name
        self.bodies = bodies
        self.counters = counters
        self.share = share
        current = Mutex(service)
        let opened = try Self.open(service.http, other)
        port = Socket.port(of: opened)
        socket = Mutex(consume opened)
    }

    private static func open(_ http: HTTPConfig, _ other: Listener?) throws(SystemError) -> FileDescriptor {
        let shared = try other?.socket.withLock { (socket) throws(SystemError) in try socket?.duplicate() }
        if let shared { return shared }
        return try Socket.listen(address: http.address, port: http.port)
    }

    /// What is served now.
    var service: Service { current.withLock { $0 } }

    /// Serves something else to the requests that begin from here on.
    func serve(_ new: Service) { current.withLock { $0 = new } }

    /// Whether its connections are to end with the request that they are at.
    var isClosing: Bool { closing.load(ordering: .relaxed) }

    func beginClosing() { closing.store(true, ordering: .relaxed) }

    /// The socket's number while it listens.
    var descriptor: Int32? { socket.withLock { $0?.number } }

    /// Takes the next connection that waits; the lock keeps the socket from being closed meanwhile.
    func accept() -> Socket.Accepted {
        socket.withLock { socket in
            guard let number = socket?.number else { return .none }
            return Socket.accept(number)
        }
    }

    /// Notes whether there was room to accept one more connection.
    ///
    /// - Returns: true when that is news, for all loops together.
    func noteRoom(_ hasRoom: Bool) -> Bool { lacksRoom.exchange(!hasRoom, ordering: .relaxed) == hasRoom }

    /// How many connections it has now.
    var connectionCount: Int { connections.load(ordering: .relaxed) }

    /// Whether `conn_limit` has been reached.
    var isFull: Bool {
        let limit = service.http.connLimit
        return limit != 0 && connectionCount >= limit
    }

    /// Counts one more connection from an address; false when `conn_limit_per_address` has been reached, and then it is not counted.
    func admit(_ peer: PeerAddress) -> Bool { addresses.take(peer, limit: service.http.connLimitPerAddress) }

    /// Counts one connection from an address less.
    func release(_ peer: PeerAddress) { addresses.release(peer) }

    /// Counts one more connection, here and of the share; false when `conn_limit` or the share has been reached, and then it
    /// is not counted.
    func admitConnection() -> Bool {
        guard share.take(.served) else { return false }
        let count = connections.wrappingAdd(1, ordering: .relaxed).newValue
        let limit = service.http.connLimit
        if limit == 0 || count <= limit { return true }
        connectionEnded(wasAdmitted: true)
        return false
    }

    /// Counts one connection less, here and of the share.
    func connectionEnded(wasAdmitted: Bool) {
        if wasAdmitted { connections.wrappingSubtract(1, ordering: .relaxed) }
        share.release(wasAdmitted ? .served : .refused)
    }

    /// Stops listening; what the kernel still holds is reset.
    func close() { socket.withLock { $0 = nil } }
}

/// What a listener counts.
final class ListenerCounters: Sendable {
    let bytes = Counter()
    let failedHandshakes = Counter()
    /// Connections without a request that were closed to make room for another one.
    let madeRoom = Counter()
    /// Connections that were too many, by the limit that they met.
    let refused: [SenderLimit: Counter] = Dictionary(uniqueKeysWithValues: SenderLimit.allCases.map { ($0, Counter()) })
    let profiles: [Counter] = [Counter(), Counter()]
    /// The statuses a listener answers by itself, each with its count, so that counting takes no lock.
    private let usual: [Int: Counter]
    /// Those of destinations, with `ack: delivered`.
    private let unusual = Mutex<[Int: Int]>([:])

    init() {
        let known = [200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 500, 501, 503, 504, 505]
        usual = Dictionary(uniqueKeysWithValues: known.map { ($0, Counter()) })
    }

    func answered(_ status: Int) {
        if let counter = usual[status] { return counter.add() }
        unusual.withLock { $0[status, default: 0] += 1 }
    }

    /// The statuses that were answered at least once.
    var answers: [(status: Int, count: Int)] {
        let known = usual.map { ($0.key, $0.value.value) }.filter { $0.1 > 0 }
        return (known + unusual.withLock { $0.map { ($0.key, $0.value) } }).sorted { $0.0 < $1.0 }
    }
}
