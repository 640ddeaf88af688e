import CCurl
import LinuxSystem

/// The connections of one endpoint, one generation after another; on the thread of the transfers only.
final class EndpointConnections {
    private let sockets: SocketWatcher
    private let route: PlainRoute?
    /// Zero means that connections are never replaced because of their age.
    private let maximumAge: Duration
    private var current: ConnectionGeneration?
    private var retired: [ConnectionGeneration] = [] { didSet { hasRetired = !retired.isEmpty } }
    /// Each request asks this, which costs less than a look at the array.
    private var hasRetired = false
    /// The limit of each generation; with the writer's own client, of all together.
    var limit: ConnectionLimit {
        didSet {
            guard limit != oldValue else { return }
            for generation in all { generation.set(limit) }
            divideLimit()
        }
    }

    /// - Parameter route: the way to the endpoint for the writer's own client; nil when only libcurl may go there.
    init(_ sockets: SocketWatcher, _ route: PlainRoute?, maximumAge: Duration, limit: ConnectionLimit) {
        (self.sockets, self.route, self.maximumAge, self.limit) = (sockets, route, maximumAge, limit)
    }

    private var all: [ConnectionGeneration] { retired + [current].compactMap(\.self) }

    /// Begins a transfer of libcurl on the current generation.
    func add(_ curl: CurlHandle, _ now: MonotonicTime) -> Bool { generation(now).add(curl) }

    /// Begins a request of the writer's own client on the current generation.
    func add(_ exchange: PlainExchange, _ now: MonotonicTime) -> Bool { generation(now).add(exchange, now) }

    private func generation(_ now: MonotonicTime) -> ConnectionGeneration {
        if let current {
            if current.replacedAt > now { return current }
            retire(current)
        }
        let new = ConnectionGeneration(sockets, replacedAt: nextEnd(now), limit: limit, route: route)
        current = new
        if hasRetired { divideLimit() }
        return new
    }

    /// Leaves the current generation what the requests on the retired ones do not need, and one connection at least.
    ///
    /// Only for the writer's own client: libcurl would let requests wait although it is given more connections meanwhile.
    private func divideLimit() {
        guard limit.open > 0, let plain = current?.plain else { return }
        let taken = retired.reduce(0) { $0 + ($1.plain?.requestCount ?? 0) }
        let part = ConnectionLimit(open: max(1, limit.open - taken), kept: limit.kept)
        if plain.limit != part { plain.limit = part }
    }

    /// Shortened at random by up to a fifth, so that connections opened together are not all replaced at the same time.
    private func nextEnd(_ now: MonotonicTime) -> MonotonicTime {
        maximumAge > .zero ? now + maximumAge * Double.random(in: 0.8...1) : .never
    }

    /// Gives a generation no more transfers; later ones go to a new generation.
    func retire(_ generation: ConnectionGeneration?) {
        guard let generation, generation === current else { return }
        current = nil
        generation.plain?.retire()
        retired.append(generation)
    }

    /// Closes the current generation if it is idle, to free descriptors for another endpoint.
    ///
    /// - Returns: true when connections were closed; connections in use are not closed.
    func closeIdle() -> Bool {
        guard let current, current.isIdle, sockets.count(of: current) > 0 else { return false }
        retire(current)
        endRetired()
        return true
    }

    /// Retires the current generation when it has more connections than the limit; they close after their last transfers.
    func shrink() {
        if let current, limit.open > 0, sockets.count(of: current) > limit.open { retire(current) }
    }

    // MARK: The loop

    /// The time at which ``turn(_:)`` has work even without a socket event.
    var nextTurn: MonotonicTime {
        let next = current.map { min($0.replacedAt, $0.nextTurn) } ?? .never
        return !hasRetired ? next : retired.reduce(next) { min($0, $1.nextTurn) }
    }

    func turn(_ now: MonotonicTime) {
        if hasRetired { for generation in all { generation.turn(now) } } else { current?.turn(now) }
        // A generation without transfers is replaced at its age too.
        if let current, current.replacedAt <= now { retire(current) }
        endRetired()
    }

    private func endRetired() {
        guard hasRetired else { return }
        for generation in retired where generation.isIdle { generation.end() }
        retired.removeAll(where: \.isIdle)
        divideLimit()
    }

    /// Ends all generations, with their transfers.
    func end() {
        for generation in all { generation.end() }
        (current, retired) = (nil, [])
    }
}
