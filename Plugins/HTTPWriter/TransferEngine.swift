import CCurl
import ConfigJSON
import Glibc
import LinuxSystem
import PluginABI
import PluginKit

/// libcurl's multi interface on one epoll, driven by readiness and libcurl's own timer; on the transfer thread only.
@safe final class TransferEngine {
    /// How many idle connections stay open; more than any `max_in_flight` that makes sense.
    private static let keptConnections = 1024
    private static let rememberedRefusals = 4096

    let config: WriterConfig
    let endpoints: [Endpoint]
    private let health: EndpointHealth
    private let multi: UnsafeMutableRawPointer
    private let sockets: SocketWatcher
    private var idle: [[Transfer]]
    private(set) var active: [ObjectIdentifier: Transfer] = [:]
    /// What waits for each endpoint, where several profiles may share a request.
    var batches: [[Waiting]]
    /// What was in a batch that failed, and is still to be sent by itself.
    var parts: [[Waiting]]
    private var flushes = FlushQueue()
    /// By sequence: the words for those that one endpoint refused and another one is still to take; `progress` has only who.
    private var refusals: [UInt64: DispatchProgress.Refusal] = [:]

    init(_ config: WriterConfig, _ host: Host, wakeup: Int32) throws(SystemError) {
        guard let multi = unsafe curl_multi_init() else { throw SystemError("curl_multi_init", code: ENOMEM) }
        self.config = config
        health = EndpointHealth(host)
        idle = config.endpoints.map { _ in [] }
        batches = config.endpoints.map { _ in [] }
        parts = config.endpoints.map { _ in [] }
        unsafe self.multi = unsafe multi
        let sockets = try SocketWatcher(wakeup: wakeup)
        self.sockets = sockets
        endpoints = config.endpoints.map { Endpoint($0, host: host, sockets: sockets) }
        defer { for index in endpoints.indices { endpoints[index].tokens?.failed = { [unowned self] in tokenFailed($0, index) } } }
        let context = unsafe Unmanaged.passUnretained(sockets).toOpaque()
        unsafe ccurl_multi_set_pointer(multi, CURLMOPT_SOCKETDATA, context)
        // By default libcurl keeps four connections a request that is under way, so it closes most when a burst is over.
        unsafe ccurl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, Self.keptConnections)
        unsafe ccurl_multi_set_pointer(multi, CURLMOPT_TIMERDATA, context)
        unsafe ccurl_multi_set_socket(multi) { _, socket, what, context, _ in
            if let context = unsafe context { unsafe SocketWatcher.at(context).watch(socket, what) }
            return 0
        }
        unsafe ccurl_multi_set_timer(multi) { _, milliseconds, context in
            guard let context = unsafe context else { return 0 }
            unsafe SocketWatcher.at(context).timer = milliseconds < 0 ? .never : .now + .milliseconds(milliseconds)
            return 0
        }
    }

    deinit {
        for curl in active.values.map(\.curl) + endpoints.compactMap({ $0.tokens?.curl }) {
            unsafe curl_multi_remove_handle(multi, curl.easy)
        }
        (active, idle) = ([:], [])
        unsafe curl_multi_cleanup(multi)
    }

    // MARK: The loop

    /// Waits for what happens next and deals with it.
    ///
    /// - Returns: true when the wakeup was signalled.
    func turn() -> Bool {
        var running: Int32 = 0
        let isWoken = sockets.wait { socket, bits in unsafe curl_multi_socket_action(multi, socket, bits, &running) }
        runTimer()
        takeFinished()
        return isWoken
    }

    private func runTimer() {
        guard sockets.timer != .never, sockets.timer <= .now else { return }
        sockets.timer = .never
        var running: Int32 = 0
        unsafe curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running)
    }

    private func takeFinished() {
        var left: Int32 = 0
        while let message = unsafe curl_multi_info_read(multi, &left) {
            guard unsafe message.pointee.msg == CURLMSG_DONE, let easy = unsafe message.pointee.easy_handle,
                let curl = unsafe CurlHandle.of(easy)
            else { continue }
            let result = unsafe ccurl_message_result(message)
            unsafe curl_multi_remove_handle(multi, easy)
            curl.ended(result)
        }
    }

    // MARK: Transfers

    /// Begins the attempts that one dispatch needs.
    func start(_ dispatch: Dispatch) {
        let refusal = refusals.removeValue(forKey: dispatch.profile.sequence)
        let refuser = dispatch.before.refuser.flatMap { $0 < endpoints.count ? endpoints[$0].config.name : nil }
        let progress = DispatchProgress(dispatch, ordinal: flushes.began(), refusal: refusal, refuser: refuser)
        let now = MonotonicTime.now
        // Not finished before all endpoints have been asked, whatever some of them say at once.
        progress.began()
        do throws(UpstreamRequest.Refusal) {
            let request = try UpstreamRequest(dispatch.profile, config)
            for index in endpoints.indices where progress.needs(index) {
                if !joinBatch((progress, request), index) { begin(index, [progress], request, now) }
            }
        } catch {
            // Nobody was asked, so no endpoint is the better or the worse for it.
            let verdict: Verdict =
                error.isTransient ? .retry(error.reason, after: .zero, httpStatus: 0) : .rejected(error.reason, httpStatus: 0)
            for index in endpoints.indices where progress.needs(index) {
                progress.took(verdict, of: index, name: endpoints[index].config.name)
            }
        }
        progress.ended()
        finishIfComplete(progress)
    }

    func finishIfComplete(_ progress: DispatchProgress) {
        let sequence = progress.dispatch.profile.sequence
        let (isFinished, refusal) = progress.finishIfComplete()
        guard isFinished else { return }
        if let refusal { remember(refusal, of: sequence) }
        flushes.ended(progress.ordinal)
    }

    private func remember(_ refusal: DispatchProgress.Refusal, of sequence: UInt64) {
        // A profile that the gateway drops meanwhile never comes back for its entry, so there is an end to them.
        if refusals.count >= Self.rememberedRefusals, let oldest = refusals.keys.min() { refusals[oldest] = nil }
        refusals[sequence] = refusal
    }

    /// Finishes a flush once everything that was started before it has ended.
    func add(_ flush: Flush) { flushes.add(flush) }

    func begin(_ index: Int, _ items: [DispatchProgress], _ request: UpstreamRequest, _ now: MonotonicTime) {
        let endpoint = endpoints[index]
        // A single endpoint needs no guard of its own: the gateway probes the receiver.
        guard endpoints.count == 1 || items.allSatisfy({ endpoint.admits($0.dispatch, now) }) else { return tellDown(items, index, now) }
        if let tokens = endpoint.tokens, tokens.current(now) == nil {
            // Who waits for what is down would hold its siblings' deliveries.
            if endpoints.count > 1, endpoint.isDown, tokens.isAsked { return tellDown(items, index, now) }
            return wait(for: tokens, index, items, request)
        }
        guard let transfer = idle[index].popLast() ?? makeTransfer(index) else {
            return tell(items, .retry("no memory for a transfer", after: .zero, httpStatus: 0), index)
        }
        do throws(Problem) { try transfer.begin(items, request, to: endpoint, isProbe: endpoint.began()) } catch {
            return take(.retry("\(error)", after: .zero, httpStatus: 0), of: transfer, items)
        }
        guard add(transfer.curl) else {
            return take(.retry("libcurl refused a transfer", after: .zero, httpStatus: 0), of: transfer, items)
        }
        active[ObjectIdentifier(transfer)] = transfer
        for item in items { item.began() }
    }

    private func tellDown(_ items: [DispatchProgress], _ index: Int, _ now: MonotonicTime) {
        let endpoint = endpoints[index]
        for item in items {
            tell([item], .retry("is down: \(endpoint.lastFailure)", after: endpoint.pause(item.dispatch, now), httpStatus: 0), index)
        }
    }

    func tell(_ items: [DispatchProgress], _ verdict: Verdict, _ index: Int) {
        for item in items { item.took(verdict, of: index, name: endpoints[index].config.name) }
    }

    private func makeTransfer(_ index: Int) -> Transfer? {
        let transfer = Transfer(endpoints[index].config, endpoint: index, sockets: sockets)
        transfer?.curl.ended = { [unowned self, unowned transfer] result in transfer.map { finish($0, result) } }
        return transfer
    }

    private func add(_ curl: CurlHandle) -> Bool { unsafe curl_multi_add_handle(multi, curl.easy) == CURLM_OK }

    /// Begins the attempt when its endpoint's token has come.
    private func wait(for tokens: TokenSource, _ index: Int, _ items: [DispatchProgress], _ request: UpstreamRequest) {
        for item in items { item.began() }
        do throws(Problem) {
            let curl = try tokens.wait { [unowned self] failure in
                for item in items { item.ended() }
                if let failure {
                    tell(items, failure.isEmpty ? .aborted : .retry(failure, after: .zero, httpStatus: 0), index)
                } else {
                    begin(index, items, request, .now)
                }
                for item in items { finishIfComplete(item) }
            }
            guard let curl else { return }
            curl.ended = { [unowned self, unowned tokens] result in
                if let again = tokens.take(result, .now), !add(again) { tokens.finish("oauth2: libcurl refused a request") }
            }
            if !add(curl) { tokens.finish("oauth2: libcurl refused a request") }
        } catch {
            for item in items { item.ended() }
            tokenFailed("\(error)", index)
            tell(items, .retry("\(error)", after: .zero, httpStatus: 0), index)
        }
    }

    /// Without a token an endpoint is as good as away.
    private func tokenFailed(_ reason: String, _ index: Int) {
        let endpoint = endpoints[index]
        endpoint.ended(.retry(reason, after: .zero, httpStatus: 0), [], isProbe: endpoint.isDown, isReached: false, now: .now)
        health.state(endpoints)
    }

    private func finish(_ transfer: Transfer, _ result: CURLcode) {
        var result = result
        if transfer.followsRedirect(result) || transfer.repeats(result) {
            if add(transfer.curl) { return }
            result = CURLE_OUT_OF_MEMORY
        }
        active[ObjectIdentifier(transfer)] = nil
        let (items, parts, cost) = (transfer.items, transfer.request?.parts ?? [], transfer.cost)
        let endpoint = endpoints[transfer.endpoint]
        let verdict = endpoint.reconsidered(transfer.end(result, endpoint.secrets), transfer.authorization)
        endpoint.spent(cost)
        idle[transfer.endpoint].append(transfer)
        if splits(verdict, items.count, transfer.endpoint) {
            // One of them may be why, and the others need not go with it; a failure says nothing about the destination yet.
            if case .rejected = verdict { endpoint.ended(verdict, [], isProbe: transfer.isProbe, isReached: true, now: .now) }
            return split(items, parts, transfer.endpoint)
        }
        for item in items { item.ended() }
        take(verdict, of: transfer, items, isReached: cost.wireBytes > 0)
        for item in items { finishIfComplete(item) }
    }

    private func take(_ verdict: Verdict, of transfer: Transfer, _ items: [DispatchProgress], isReached: Bool = false) {
        endpoints[transfer.endpoint].ended(
            verdict, items.map(\.dispatch), isProbe: transfer.isProbe, isReached: isReached, now: .now)
        tell(items, verdict, transfer.endpoint)
        health.state(endpoints)
    }

    /// Gives every open attempt up.
    func abort() {
        for transfer in active.values {
            unsafe curl_multi_remove_handle(multi, transfer.curl.easy)
            let items = transfer.items
            _ = transfer.end(CURLE_ABORTED_BY_CALLBACK, KnownSecrets([]))
            for item in items { item.ended() }
            tell(items, .aborted, transfer.endpoint)
            for item in items { finishIfComplete(item) }
        }
        active = [:]
        abortBatches()
        for tokens in endpoints.compactMap(\.tokens) {
            if let curl = tokens.curl { unsafe curl_multi_remove_handle(multi, curl.easy) }
            // No reason: nothing has failed.
            tokens.finish("")
        }
    }
}

extension SocketWatcher {
    /// The watcher that a callback's context is.
    static func at(_ context: UnsafeMutableRawPointer) -> SocketWatcher {
        unsafe Unmanaged<SocketWatcher>.fromOpaque(context).takeUnretainedValue()
    }
}
