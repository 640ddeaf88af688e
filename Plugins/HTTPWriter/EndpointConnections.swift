import CCurl
import LinuxSystem

/// The connections of one endpoint, generation after generation; on the transfer thread only.
final class EndpointConnections {
    private let sockets: SocketWatcher
    /// zero never replaces them for their age.
    private let maximumAge: Duration
    private var current: ConnectionGeneration?
    private var retired: [ConnectionGeneration] = []
    /// Holds for each generation by itself.
    var limit: ConnectionLimit {
        didSet { if limit != oldValue { for generation in all { generation.set(limit) } } }
    }

    init(_ sockets: SocketWatcher, maximumAge: Duration, limit: ConnectionLimit) {
        (self.sockets, self.maximumAge, self.limit) = (sockets, maximumAge, limit)
    }

    private var all: [ConnectionGeneration] { retired + [current].compactMap(\.self) }

    /// Begins a transfer on the present connections.
    func add(_ curl: CurlHandle, _ now: MonotonicTime) -> Bool {
        if let current, current.replacedAt <= now { retire(current) }
        if current == nil { current = try? ConnectionGeneration(sockets, replacedAt: nextEnd(now), limit: limit) }
        return current?.add(curl) ?? false
    }

    /// Earlier by up to a fifth, so that those who began together do not all begin anew together.
    private func nextEnd(_ now: MonotonicTime) -> MonotonicTime {
        maximumAge > .zero ? now + maximumAge * Double.random(in: 0.8...1) : .never
    }

    /// Gives a generation no more transfers; those of the present one go to another one then.
    func retire(_ generation: ConnectionGeneration?) {
        guard let generation, generation === current else { return }
        current = nil
        retired.append(generation)
    }

    /// Makes way for another endpoint's connections.
    ///
    /// - Returns: true when some were closed; those that are in use are not.
    func closeIdle() -> Bool {
        guard let current, current.isIdle, sockets.count(of: current) > 0 else { return false }
        retire(current)
        endRetired()
        return true
    }

    /// Leaves connections beyond the limit to their last transfers.
    func shrink() {
        if let current, limit.open > 0, sockets.count(of: current) > limit.open { retire(current) }
    }

    // MARK: The loop

    /// When ``turn(_:)`` has something to do though nothing has happened.
    var nextTurn: MonotonicTime {
        all.reduce(current?.replacedAt ?? .never) { min($0, $1.timer) }
    }

    func turn(_ now: MonotonicTime) {
        for generation in all { generation.turn(now) }
        // A generation without transfers is closed at its age too.
        if let current, current.replacedAt <= now { retire(current) }
        endRetired()
    }

    private func endRetired() {
        guard !retired.isEmpty else { return }
        for generation in retired where generation.isIdle { generation.end() }
        retired.removeAll(where: \.isIdle)
    }

    /// Ends all of them with what they have.
    func end() {
        for generation in all { generation.end() }
        (current, retired) = (nil, [])
    }
}
