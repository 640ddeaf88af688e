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
    /// How long addresses are used by new connections where connections have no age.
    private static let addressAge = Duration.seconds(60)

    let route: PlainRoute
    private let sockets: SocketWatcher
    private unowned let generation: ConnectionGeneration
    /// How many connections it may have; those beyond it close when they become idle.
    var limit: ConnectionLimit { didSet { serveWaiting() } }
    private var running = ExchangeSet()
    /// Requests that wait for one of the connections, in order.
    private var waiting: [PlainExchange] = []
    private var unresolved: [PlainExchange] = []
    /// The first and the last of the requests that have ended and were not told of.
    private var (firstFinished, lastFinished) = (PlainExchange?.none, PlainExchange?.none)
    private let idle = IdlePlainConnections()
    private var (connections, isRetired) = (0, false)
    /// No running request is due before this time.
    private var earliest = MonotonicTime.never
    private var lookup: PlainLookup?
    /// The addresses found last, with the one first that worked.
    private var addresses: [SocketAddress]
    private var addressesEnd = MonotonicTime.never
    /// Where answers are received.
    var buffer: [UInt8] = []

    init(_ route: PlainRoute, _ sockets: SocketWatcher, of generation: ConnectionGeneration, limit: ConnectionLimit) {
        (self.route, self.sockets, self.generation, self.limit) = (route, sockets, generation, limit)
        addresses = route.names.known ?? []
    }

    /// True when it has no requests.
    var isIdle: Bool { running.all.isEmpty && firstFinished == nil }

    private var isFull: Bool { limit.open > 0 && connections >= limit.open }

    // MARK: The loop

    /// The time at which ``turn(_:)`` has work even without a socket event.
    var nextTurn: MonotonicTime { firstFinished == nil ? earliest : MonotonicTime(nanoseconds: 0) }

    /// Ends what is late, and tells of the requests that have ended.
    func turn(_ now: MonotonicTime) {
        if let result = lookup?.result { resolved(result, now) }
        if earliest <= now { lookForLate(now) }
        var told = firstFinished
        (firstFinished, lastFinished) = (nil, nil)
        while let exchange = told {
            told = exchange.nextFinished
            exchange.nextFinished = nil
            exchange.ended()
        }
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
        if addressesEnd <= now, route.names.known == nil { addresses = [] }
        if addresses.isEmpty { return resolve(exchange) }
        exchange.phase = .connection
        exchange.addresses = addresses[...]
        connect(exchange, ENETUNREACH, now)
    }

    /// Ends a request without telling, and closes its connection.
    func cancel(_ exchange: PlainExchange) {
        forgetFinished(exchange)
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
        if let last = lastFinished { last.nextFinished = exchange } else { firstFinished = exchange }
        lastFinished = exchange
        guard let connection else { return }
        connection.exchange = nil
        if keeps { release(connection) } else { close(connection) }
    }

    private func forgetFinished(_ exchange: PlainExchange) {
        var (previous, next) = (PlainExchange?.none, firstFinished)
        while let other = next, other !== exchange { (previous, next) = (other, other.nextFinished) }
        guard next != nil else { return }
        if let previous { previous.nextFinished = exchange.nextFinished } else { firstFinished = exchange.nextFinished }
        if lastFinished === exchange { lastFinished = previous }
        exchange.nextFinished = nil
    }

    /// Whether a request has not ended yet.
    func isRunning(_ exchange: PlainExchange) -> Bool { running.contains(exchange) }

    private func remove(_ exchange: PlainExchange) {
        switch exchange.phase {
        case .limit: waiting.removeAll { $0 === exchange }
        case .lookup: unresolved.removeAll { $0 === exchange }
        case .idle, .connection, .answer: break
        }
        running.remove(exchange)
    }

    // MARK: Names

    private func resolve(_ exchange: PlainExchange) {
        do throws(SystemError) {
            if lookup == nil { lookup = try route.names.lookUp() }
            exchange.phase = .lookup
            unresolved.append(exchange)
        } catch {
            exchange.end(failure: "cannot look up \(route.names.host): \(error)", isDenied: error.isLackOfDescriptors)
            end(exchange, nil)
        }
    }

    private func resolved(_ result: PlainLookup.Result, _ now: MonotonicTime) {
        lookup = nil
        let ready = unresolved
        unresolved = []
        switch result {
        case .success(let found):
            addresses = found
            addressesEnd = route.keepsAddresses ? .never : now + Self.addressAge
            for exchange in ready { exchange.phase = .idle }
            for exchange in ready where isRunning(exchange) { place(exchange, now) }
        case .failure(let unknown):
            for exchange in ready {
                exchange.end(failure: "cannot look up \(route.names.host): \(unknown.reason)")
                end(exchange, nil)
            }
        }
    }

    // MARK: Connections

    /// Connects to the next of the addresses that remain for a request.
    ///
    /// - Parameter failure: why the address before it is not used.
    private func connect(_ exchange: PlainExchange, _ failure: Int32, _ now: MonotonicTime) {
        var failure = failure
        while let address = exchange.addresses.popFirst() {
            // An address of the other family cannot be reached from the source.
            if let source = route.source, source.family != address.family { continue }
            do throws(SystemError) {
                let socket = try sockets.open(address.family, Socket.stream, 0, of: generation)
                connections += 1
                let connection = PlainConnection(socket, address, self, sockets)
                if let code = route.source.flatMap({ Socket.setSource(of: socket, to: $0) }) {
                    failure = code
                    close(connection)
                    continue
                }
                switch Socket.connect(socket, to: address) {
                case .connected: return connected(connection, exchange, now)
                case .underWay:
                    (connection.exchange, exchange.connection) = (exchange, connection)
                    let left = exchange.deadline.since(now) / (exchange.addresses.count + 1)
                    let isLast = exchange.addresses.isEmpty
                    wait(for: exchange, until: isLast ? exchange.deadline : now + min(left, Self.mostForAddress))
                    return connection.wait(for: .writable)
                case .failed(let code):
                    failure = code
                    close(connection)
                }
            } catch {
                failure = error.code
                // Other errors, such as an address family that this machine does not support, are not a lack of descriptors.
                if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.code) {
                    exchange.end(failure: "\(error)", isDenied: true)
                    return end(exchange, nil)
                }
            }
        }
        exchange.end(failure: "cannot connect to \(route.place): \(SystemError.text(of: failure))")
        end(exchange, nil)
    }

    /// Gives up an address.
    func tryNext(_ exchange: PlainExchange, _ connection: PlainConnection, _ failure: Int32, _ now: MonotonicTime) {
        (exchange.connection, connection.exchange) = (nil, nil)
        close(connection)
        connect(exchange, failure, now)
    }

    func connected(_ connection: PlainConnection, _ exchange: PlainExchange, _ now: MonotonicTime) {
        connection.isConnecting = false
        exchange.noteConnected()
        // The address that works is tried first from now on.
        if let place = addresses.firstIndex(of: connection.address), place > 0 { addresses.insert(addresses.remove(at: place), at: 0) }
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
        let next = waiting.first
        guard !isSurplus, !isRetired || next != nil, next?.isFresh != true, idle.count < limit.kept else { return close(connection) }
        connection.wait(for: .readable)
        if let next {
            waiting.removeFirst()
            return use(connection, next)
        }
        idle.add(connection)
    }

    /// Closes a connection, and gives its place to a request that waits for one.
    func close(_ connection: PlainConnection) {
        sockets.close(connection.socket)
        connections -= 1
        serveWaiting()
    }

    private func serveWaiting() {
        while !waiting.isEmpty, !isFull {
            let exchange = waiting.removeFirst()
            exchange.phase = .idle
            place(exchange, .now)
        }
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
        waiting = []
        for connection in running.all.compactMap(\.connection) {
            connection.exchange = nil
            close(connection)
        }
        while let connection = idle.takeLatest() { close(connection) }
        while let exchange = firstFinished { forgetFinished(exchange) }
        (running, unresolved, lookup) = (ExchangeSet(), [], nil)
    }
}
