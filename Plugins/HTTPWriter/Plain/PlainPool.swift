import Glibc
import LinuxSystem
import PushWire

/// The connections of one generation for the writer's own client, and the requests on them.
///
/// Nothing here waits or knows of threads: ``act(_:_:)`` is called when a socket is ready, and ``turn(_:)`` when the time of
/// ``nextTurn`` has come, always by the thread that begins requests. A request that has ended is told of in the next turn.
final class PlainPool {
    /// The most time for one of several addresses; the last one gets all that is left.
    private static let mostForAddress = Duration.seconds(2)
    /// The pause after a connection for which the server had no room.
    private static let fullPause = Duration.milliseconds(5)

    let route: PlainRoute
    private let sockets: SocketWatcher
    private unowned let generation: ConnectionGeneration
    /// How many connections it may have; those beyond it close when they become idle.
    var limit: ConnectionLimit { didSet { serveWaiting() } }
    private var running = ExchangeSet()
    /// Requests that wait for one of the connections.
    private let waiting = ExchangeQueue()
    private var isServing = false
    /// When new connections are tried again to a server whose queue of them was full; `never` when it was not.
    private var nextTry = MonotonicTime.never
    private let unresolved = ExchangeQueue()
    /// Requests that have ended and were not told of.
    private let finished = ExchangeQueue()
    private let idle = IdlePlainConnections()
    private var (connections, isRetired) = (0, false)
    /// No running request is due before this time.
    private var earliest = MonotonicTime.never
    private let addresses: PlainAddresses
    /// Where answers are received.
    var buffer: [UInt8] = []

    init(_ route: PlainRoute, _ sockets: SocketWatcher, of generation: ConnectionGeneration, limit: ConnectionLimit) {
        (self.route, self.sockets, self.generation, self.limit) = (route, sockets, generation, limit)
        addresses = PlainAddresses(route)
    }

    /// True when it has no requests.
    var isIdle: Bool { running.all.isEmpty && finished.isEmpty }

    var requestCount: Int { running.all.count }

    private var isFull: Bool { limit.open > 0 && connections >= limit.open || nextTry != .never }

    // MARK: The loop

    /// The time at which ``turn(_:)`` has work even without a socket event.
    var nextTurn: MonotonicTime { finished.isEmpty ? min(earliest, nextTry) : MonotonicTime(nanoseconds: 0) }

    /// Ends what is late, and tells of the requests that have ended.
    func turn(_ now: MonotonicTime) {
        if let result = addresses.takeResult(now) { resolved(result, now) }
        if earliest <= now { lookForLate(now) }
        if nextTry <= now {
            nextTry = .never
            serveWaiting()
        }
        // Those that end meanwhile are told of in the next turn.
        for _ in 0..<finished.count { finished.takeFirst()?.ended() }
    }

    private func lookForLate(_ now: MonotonicTime) {
        // The timeout is the same for all, so this happens seldom, and finds few requests to look at.
        for exchange in running.all where exchange.due <= now && isRunning(exchange) {
            if exchange.deadline <= now {
                let connection = exchange.connection
                exchange.endLate()
                end(exchange, connection)
            } else if let connection = exchange.connection, connection.isConnecting {
                tryNext(exchange, connection, ETIMEDOUT, now)
            }
        }
        earliest = running.all.reduce(.never) { min($0, $1.due) }
    }

    // MARK: Requests

    /// Begins a request.
    func begin(_ exchange: PlainExchange, _ now: MonotonicTime) {
        running.add(exchange)
        wait(for: exchange, until: exchange.deadline)
        place(exchange, now)
    }

    private func wait(for exchange: PlainExchange, until due: MonotonicTime) {
        exchange.due = due
        earliest = min(earliest, due)
    }

    /// Gives a request a connection, if there is one or there may be another.
    private func place(_ exchange: PlainExchange, _ now: MonotonicTime) {
        if !exchange.isFresh, let connection = idle.takeLatest() { return use(connection, exchange) }
        if exchange.isFresh, isFull, let oldest = idle.oldest { drop(oldest) }
        if isFull {
            exchange.phase = .limit
            return waiting.append(exchange)
        }
        exchange.addresses = addresses.current(now)
        if exchange.addresses.isEmpty { return resolve(exchange) }
        exchange.phase = .connection
        connect(exchange, ENETUNREACH, now)
    }

    /// Ends a request without telling, and closes its connection.
    func cancel(_ exchange: PlainExchange) {
        if exchange.phase == .finished {
            finished.remove(exchange)
            exchange.phase = .idle
        }
        guard isRunning(exchange), case let connection = exchange.connection else { return }
        remove(exchange)
        if let connection { close(connection) }
    }

    /// Removes a request whose end was noted, and tells of it in the next turn.
    ///
    /// - Parameters:
    ///   - connection: the connection that it was on, if it had one.
    ///   - keeps: whether the connection can carry another request.
    func end(_ exchange: PlainExchange, _ connection: PlainConnection?, keeps: Bool = false) {
        remove(exchange)
        exchange.phase = .finished
        finished.append(exchange)
        connection?.exchange = nil
        if let connection { keeps ? release(connection) : close(connection) }
    }

    /// Whether a request has not ended yet.
    func isRunning(_ exchange: PlainExchange) -> Bool { running.contains(exchange) }

    private func remove(_ exchange: PlainExchange) {
        switch exchange.phase {
        case .limit: waiting.remove(exchange)
        case .lookup: unresolved.remove(exchange)
        case .idle, .connection, .answer, .finished: break
        }
        exchange.phase = .idle
        running.remove(exchange)
    }

    // MARK: Names

    private func resolve(_ exchange: PlainExchange) {
        do throws(SystemError) {
            try addresses.lookUp()
            exchange.phase = .lookup
            unresolved.append(exchange)
        } catch {
            exchange.end(failure: "cannot look up \(route.names.host): \(error)", isDenied: error.isLackOfDescriptors)
            end(exchange, nil)
        }
    }

    private func resolved(_ result: PlainLookup.Result, _ now: MonotonicTime) {
        for _ in 0..<unresolved.count {
            guard let exchange = unresolved.takeFirst() else { return }
            switch result {
            case .success: place(exchange, now)
            case .failure(let unknown):
                exchange.end(failure: "cannot look up \(route.names.host): \(unknown.reason)")
                end(exchange, nil)
            }
        }
    }

    // MARK: Connections

    /// Connects to the next of the addresses that remain for a request. Until the last one has failed, no other request is given its
    /// place among the connections.
    ///
    /// - Parameter failure: why the address before it is not used.
    private func connect(_ exchange: PlainExchange, _ failure: Int32, _ now: MonotonicTime) {
        var failure = failure
        while let address = exchange.addresses.popFirst() {
            // An address of the other family cannot be reached from the source.
            if let source = route.source, source.family != address.family { continue }
            do throws(SystemError) {
                guard let code = try connect(exchange, to: address, now) else { return }
                failure = code
            } catch {
                failure = error.code
                // Others, such as an address family that this machine does not support, are no lack of descriptors.
                guard [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.code) else { continue }
                exchange.end(failure: "\(error)", isDenied: true)
                end(exchange, nil)
                return serveWaiting()
            }
        }
        exchange.end(failure: "cannot connect to \(route.place): \(SystemError.text(of: failure))")
        end(exchange, nil)
        serveWaiting()
    }

    /// Begins a connection for a request.
    ///
    /// - Returns: the `errno` of a failure; nil when the request waits or is under way.
    private func connect(_ exchange: PlainExchange, to address: SocketAddress, _ now: MonotonicTime) throws(SystemError) -> Int32? {
        let socket = try sockets.open(address.family, Socket.stream, 0, of: generation)
        connections += 1
        let connection = PlainConnection(socket, address, self, sockets)
        let unbound = route.source.flatMap { Socket.setSource(of: socket, to: $0) }
        switch unbound.map(Socket.Connecting.failed) ?? Socket.connect(socket, to: address) {
        case .connected: connected(connection, exchange, now)
        case .underWay:
            (connection.exchange, exchange.connection) = (exchange, connection)
            let left = exchange.deadline.since(now) / (exchange.addresses.count + 1)
            wait(for: exchange, until: exchange.addresses.isEmpty ? exchange.deadline : now + min(left, Self.mostForAddress))
            connection.wait(for: .writable)
        case .full:
            abandon(connection)
            exchange.phase = .limit
            waiting.prepend(exchange)
            nextTry = now + Self.fullPause
        case .failed(let code):
            abandon(connection)
            return code
        }
        return nil
    }

    /// Closes a connection whose place is to be used for another one.
    private func abandon(_ connection: PlainConnection) {
        sockets.close(connection.socket)
        connections -= 1
    }

    /// Gives up an address.
    func tryNext(_ exchange: PlainExchange, _ connection: PlainConnection, _ failure: Int32, _ now: MonotonicTime) {
        (exchange.connection, connection.exchange) = (nil, nil)
        abandon(connection)
        connect(exchange, failure, now)
    }

    func connected(_ connection: PlainConnection, _ exchange: PlainExchange, _ now: MonotonicTime) {
        connection.isConnecting = false
        exchange.noteConnected()
        addresses.worked(connection.address)
        wait(for: exchange, until: exchange.deadline)
        use(connection, exchange)
    }

    private func use(_ connection: PlainConnection, _ exchange: PlainExchange) {
        (connection.exchange, exchange.connection, exchange.phase) = (exchange, connection, .answer)
        exchange.addresses = []
        send(exchange, connection)
    }

    /// Keeps a connection for the next request.
    private func release(_ connection: PlainConnection) {
        connection.isReused = true
        let isSurplus = limit.open > 0 && connections > limit.open
        let isWanted = waiting.first.map { !$0.isFresh } ?? !isRetired
        guard !isSurplus, isWanted, idle.count < limit.kept else { return close(connection) }
        connection.wait(for: .readable)
        if let next = waiting.takeFirst() { use(connection, next) } else { idle.add(connection) }
    }

    /// Closes a connection, and gives its place to a request that waits for one.
    func close(_ connection: PlainConnection) {
        abandon(connection)
        serveWaiting()
    }

    private func serveWaiting() {
        // A request that ends at once makes room for the next one; a call inside the other for each would need a stack without bound.
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while !isFull, let exchange = waiting.takeFirst() { place(exchange, .now) }
    }

    /// Closes an idle connection.
    func drop(_ connection: PlainConnection) {
        idle.remove(connection)
        close(connection)
    }

    /// Closes idle connections, and from now on every one after its last request.
    func retire() {
        isRetired = true
        while let connection = idle.takeLatest() { close(connection) }
    }

    /// Closes all connections, and forgets the requests on them.
    func end() {
        for queue in [waiting, unresolved, finished] { while queue.takeFirst() != nil {} }
        nextTry = .never
        for connection in running.all.compactMap(\.connection) {
            connection.exchange = nil
            close(connection)
        }
        while let connection = idle.takeLatest() { close(connection) }
        running = ExchangeSet()
        addresses.endLookup()
    }
}
