import CCurl
import LinuxSystem

/// The connections of one endpoint, one generation after another; on the transfer thread only.
final class EndpointConnections {
    private let sockets: SocketWatcher
    /// Zero means that connections are never replaced because of their age.
    private let maximumAge: Duration
    private var current: ConnectionGeneration?
    private var retired: [ConnectionGeneration] = []
    /// The limit of each generation.
    var limit: ConnectionLimit {
        didSet { if limit != oldValue { for generation in all { generation.set(limit) } } }
    }

    init(_ sockets: SocketWatcher, maximumAge: Duration, limit: ConnectionLimit) {
        (self.sockets, self.maximumAge, self.limit) = (sockets, maximumAge, limit)
    }

    private var all: [ConnectionGeneration] { retired + [current].compactMap(\.self) }

    /// Begins a transfer on the current generation.
    func add(_ curl: CurlHandle, _ now: MonotonicTime) -> Bool {
        if let current, current.replacedAt <= now { retire(current) }
        if current == nil { current = try? ConnectionGeneration(sockets, replacedAt: nextEnd(now), limit: limit) }
        return current?.add(curl) ?? false
    }

    /// Shortened at random by up to a fifth, so that connections opened together are not all replaced at the same time.
    private func nextEnd(_ now: MonotonicTime) -> MonotonicTime {
        maximumAge > .zero ? now + maximumAge * Double.random(in: 0.8...1) : .never
    }

    /// Gives a generation no more transfers; later ones go to a new generation.
    func retire(_ generation: ConnectionGeneration?) {
        guard let generation, generation === current else { return }
        current = nil
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
        all.reduce(current?.replacedAt ?? .never) { min($0, $1.timer) }
    }

    func turn(_ now: MonotonicTime) {
        for generation in all { generation.turn(now) }
        // A generation without transfers is replaced at its age too.
        if let current, current.replacedAt <= now { retire(current) }
        endRetired()
    }

    private func endRetired() {
        guard !retired.isEmpty else { return }
        for generation in retired where generation.isIdle { generation.end() }
        retired.removeAll(where: \.isIdle)
    }

    /// Ends all generations, with their transfers.
    func end() {
        for generation in all { generation.end() }
        (current, retired) = (nil, [])
    }
}
