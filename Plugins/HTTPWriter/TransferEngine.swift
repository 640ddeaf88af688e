import ConfigJSON
import LinuxSystem
import PluginKit
import PushWire

/// Runs the transfers of all endpoints, driven by socket events and libcurl's timers; on the thread of the transfers only.
@safe final class TransferEngine {
    private static let rememberedRefusals = 4096
    /// How long a profile is deferred when no connection can be opened for lack of descriptors.
    private static let waitForRoom = Duration.milliseconds(500)

    let config: WriterConfig
    let endpoints: [Endpoint]
    let host: GatewayHost
    let sockets: SocketWatcher
    private let share: DescriptorShare
    /// All transfers; each is under way, or kept by its endpoint for another request.
    private var transfers: [Transfer] = []
    /// The probe under way; nil when there is none.
    var currentProbe: EndpointProbe?
    /// Per endpoint, the profiles that wait for the next batch.
    var batches: [[Dispatch]]
    /// Per endpoint, the profiles of failed batches that are still to be sent alone.
    var parts: [[Dispatch]]
    private let flushes = FlushQueue()
    /// The rejections to remember for the next attempt, by sequence; `progress` only tells which endpoint rejected the profile.
    private var refusals: [UInt64: Dispatch.Refusal] = [:]

    init(_ config: WriterConfig, _ host: GatewayHost, _ events: any SocketEvents, _ health: InstanceHealth) {
        (self.config, self.host) = (config, host)
        batches = config.endpoints.map { _ in [] }
        parts = config.endpoints.map { _ in [] }
        let sockets = SocketWatcher(events)
        let share = DescriptorShare(host, endpoints: config.endpoints.count, loops: config.loops)
        (self.sockets, self.share) = (sockets, share)
        sockets.limit = share.total
        endpoints = config.endpoints.enumerated().map { index, endpoint in
            Endpoint(endpoint, index, health, host: host, sockets: sockets, limit: share.each)
        }
        for index in endpoints.indices { endpoints[index].tokens?.failed = { [unowned self] in tokenFailed($0, index) } }
    }

    deinit {
        for endpoint in endpoints {
            endpoint.connections.end()
            // An endpoint and the transfers that it keeps refer to each other.
            while endpoint.takeIdle() != nil {}
        }
    }

    // MARK: The loop

    /// The time of the next timer.
    var nextTurn: MonotonicTime {
        var next = share.nextLook
        for endpoint in endpoints { next = min(next, endpoint.connections.nextTurn) }
        return next
    }

    /// Handles what has come of the events that were there together, and the timers that are due.
    func endRound() {
        sockets.endRound()
        act(sockets.now)
    }

    /// Handles the requests that have ended and the timers that are due.
    func act(_ now: MonotonicTime) {
        sockets.now = now
        for endpoint in endpoints { endpoint.connections.turn(now) }
        if share.nextLook <= now, share.look(now) { obeyShare() }
    }

    private func obeyShare() {
        sockets.limit = share.total
        for endpoint in endpoints {
            endpoint.connections.limit = share.each
            endpoint.connections.shrink()
        }
    }

    /// Closes idle connections of another endpoint.
    private func makesRoom(for index: Int) -> Bool {
        endpoints.indices.contains { $0 != index && endpoints[$0].connections.closeIdle() }
    }

    // MARK: Transfers

    /// The transfers that are under way.
    var active: [Transfer] { transfers.filter(\.isActive) }

    /// Begins the attempts with one profile at the endpoints that still need it.
    func start(_ profile: Profile, _ delivery: consuming Delivery, _ now: MonotonicTime) {
        sockets.now = now
        let refusal = refusals.isEmpty ? nil : refusals.removeValue(forKey: profile.sequence)
        let item = Dispatch(profile, delivery, ordinal: flushes.began(), refusal: refusal)
        // Held open, so that it is not finished before every endpoint was tried, even if some end at once.
        item.began()
        do throws(UpstreamRequest.Refusal) {
            try item.makeRequest(config)
            for index in endpoints.indices where item.needs(index) {
                if !joinBatch(item, index) { begin(index, DispatchList(item), item.request, now) }
            }
        } catch {
            // No request was sent, so no endpoint's availability changes.
            let verdict: Verdict =
                error.isTransient ? .retry(error.reason, after: .zero, httpStatus: 0) : .rejected(error.reason, httpStatus: 0)
            for index in endpoints.indices where item.needs(index) {
                item.took(verdict, of: index, name: endpoints[index].config.name)
            }
        }
        item.ended()
        finishIfComplete(item)
    }

    func finishIfComplete(_ item: Dispatch) {
        let sequence = item.profile.sequence
        let (isFinished, refusal) = item.finishIfComplete(endpoints)
        guard isFinished else { return }
        if let refusal { remember(refusal, of: sequence) }
        flushes.ended(item.ordinal)
    }

    private func remember(_ refusal: Dispatch.Refusal, of sequence: UInt64) {
        // An entry stays if the gateway drops the profile, because no attempt comes again; therefore their number is bounded.
        if refusals.count >= Self.rememberedRefusals, let oldest = refusals.keys.min() { refusals[oldest] = nil }
        refusals[sequence] = refusal
    }

    /// Finishes a flush once everything that was started before it has ended.
    func add(_ flush: SharedFlush) { flushes.add(flush) }

    /// Begins an attempt with these profiles at an endpoint.
    ///
    /// - Parameter holdsBatches: true when the endpoint's next batch waits for the end of this request.
    func begin(
        _ index: Int, _ items: DispatchList, _ request: UpstreamRequest, _ now: MonotonicTime, holdsBatches: Bool = false
    ) {
        let endpoint = endpoints[index]
        // A single endpoint is not checked here: the gateway probes the receiver as a whole.
        guard endpoints.count == 1 || items.allSatisfy({ endpoint.admits($0, now) }) else { return tellDown(items, index, now) }
        if let tokens = endpoint.tokens, tokens.current(now) == nil {
            // Waiting for the token of an endpoint that is down would hold up the deliveries to the other endpoints.
            if endpoints.count > 1, endpoint.isDown, tokens.isAsked { return tellDown(items, index, now) }
            return wait(for: tokens, index, items, request, holdsBatches: holdsBatches)
        }
        guard let transfer = endpoint.takeIdle() ?? makeTransfer(index) else {
            return tell(items, .retry(Self.noMemory, after: .zero, httpStatus: 0), index)
        }
        do throws(Transfer.Obstacle) { try transfer.begin(items, request, to: endpoint, isProbe: endpoint.began(), now) } catch {
            return notBegun(error, transfer, items)
        }
        guard transfer.start(on: endpoint.connections, now) else {
            return take(.retry(Self.noMemory, after: .zero, httpStatus: 0), of: transfer, items)
        }
        (transfer.holdsBatches, transfer.isActive) = (holdsBatches, true)
        items.each { $0.began() }
    }

    private func notBegun(_ obstacle: Transfer.Obstacle, _ transfer: Transfer, _ items: DispatchList) {
        switch obstacle {
        case .problem(let problem): take(.retry("\(problem)", after: .zero, httpStatus: 0), of: transfer, items)
        case .refusal(let refusal):
            // No request was sent, so the endpoint's availability does not change.
            endpoints[transfer.endpoint].ended(.aborted, DispatchList(), isProbe: transfer.isProbe, isReached: false, now: .now)
            tell(items, .rejected(refusal.reason, httpStatus: 0), transfer.endpoint)
            release(transfer)
        }
    }

    private func release(_ transfer: Transfer) {
        transfer.release()
        transfer.destination.keep(transfer)
    }

    private func tellDown(_ items: DispatchList, _ index: Int, _ now: MonotonicTime) {
        let endpoint = endpoints[index]
        for item in items {
            item.took(
                .retry("is down: \(endpoint.lastFailure)", after: endpoint.pause(item, now), httpStatus: 0), of: index,
                name: endpoint.config.name)
        }
    }

    func tell(_ items: some Collection<Dispatch>, _ verdict: Verdict, _ index: Int) {
        for item in items { item.took(verdict, of: index, name: endpoints[index].config.name) }
    }

    private func makeTransfer(_ index: Int) -> Transfer? {
        let transfer = Transfer(endpoints[index], index, sockets: sockets)
        guard let transfer else { return nil }
        transfer.ended = { [unowned self, unowned transfer] in finish(transfer) }
        transfers.append(transfer)
        return transfer
    }

    static let noMemory = "no memory for a transfer"

    private func finish(_ transfer: Transfer) {
        var result = transfer.makeResult()
        let endpoint = transfer.destination
        if transfer.goesOn(result, hasRoom: result.isDenied && makesRoom(for: transfer.endpoint)) {
            if transfer.start(on: endpoint.connections, .now) { return }
            result = LaneResult(failure: Self.noMemory)
        }
        if result.isLost { endpoint.connections.retire(transfer.generation) }
        transfer.isActive = false
        let (cost, isDenied) = (transfer.cost, result.isDenied)
        endpoint.spent(cost)
        var verdict = transfer.judge(result, endpoint.secrets.known)
        if let tokens = endpoint.tokens { verdict = tokens.reconsidered(verdict, transfer.authorization) }
        tellEnd(of: transfer, verdict, isDenied: isDenied, isReached: cost.wireBytes > 0)
        release(transfer)
    }

    private func tellEnd(of transfer: Transfer, _ verdict: Verdict, isDenied: Bool, isReached: Bool) {
        let (endpoint, items) = (transfer.destination, transfer.items)
        if splits(verdict, items.count, transfer.endpoint) {
            // One of the profiles may be the reason, and the others need not fail with it. A failure says nothing about the
            // endpoint yet.
            let ended = if case .rejected = verdict { verdict } else { Verdict.aborted }
            endpoint.ended(ended, DispatchList(), isProbe: transfer.isProbe, isReached: true, now: sockets.now)
            // They count as open until they are sent alone.
            parts[transfer.endpoint] += items
            return
        }
        var told = verdict
        if isDenied {
            // The lack of our own descriptors says nothing about the endpoint.
            endpoint.ended(.aborted, DispatchList(), isProbe: transfer.isProbe, isReached: false, now: .now)
            told = .retry("no descriptor is free for another connection", after: Self.waitForRoom, httpStatus: 0)
        } else {
            endpoint.ended(verdict, items, isProbe: transfer.isProbe, isReached: isReached, now: sockets.now)
        }
        items.each { item in
            item.ended()
            item.took(told, of: transfer.endpoint, name: endpoint.config.name)
            finishIfComplete(item)
        }
    }

    private func take(_ verdict: Verdict, of transfer: Transfer, _ items: DispatchList) {
        endpoints[transfer.endpoint].ended(verdict, items, isProbe: transfer.isProbe, isReached: false, now: sockets.now)
        tell(items, verdict, transfer.endpoint)
        release(transfer)
    }

    /// Aborts every open attempt.
    func abort() {
        for transfer in active {
            transfer.cancel()
            let items = transfer.items
            transfer.isActive = false
            release(transfer)
            for item in items { item.ended() }
            tell(items, .aborted, transfer.endpoint)
            for item in items { finishIfComplete(item) }
        }
        currentProbe?.abort()
        abortBatches()
        for tokens in endpoints.compactMap(\.tokens) {
            if let curl = tokens.curl { curl.generation?.remove(curl) }
            // An empty reason: the token request did not fail.
            tokens.finish("")
        }
    }
}
