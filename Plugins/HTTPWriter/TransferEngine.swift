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

    private let config: WriterConfig
    private let endpoints: [Endpoint]
    private let health: EndpointHealth
    private let multi: UnsafeMutableRawPointer
    private let sockets: SocketWatcher
    private var idle: [[Transfer]]
    private var active: [ObjectIdentifier: Transfer] = [:]
    private var flushes = FlushQueue()
    /// By sequence: who was refused by one endpoint and is still to be taken by another.
    private var refusals: [UInt64: DispatchProgress.Refusal] = [:]

    init(_ config: WriterConfig, _ host: Host, wakeup: Int32) throws(SystemError) {
        guard let multi = unsafe curl_multi_init() else { throw SystemError("curl_multi_init", code: ENOMEM) }
        self.config = config
        health = EndpointHealth(host)
        idle = config.endpoints.map { _ in [] }
        unsafe self.multi = unsafe multi
        let sockets = try SocketWatcher(wakeup: wakeup)
        self.sockets = sockets
        endpoints = config.endpoints.map { Endpoint($0, host: host, sockets: sockets) }
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
        let progress = DispatchProgress(dispatch, ordinal: flushes.began(), refusal: refusal)
        let now = MonotonicTime.now
        do throws(UpstreamRequest.Refusal) {
            let request = try UpstreamRequest(dispatch.profile, external: config.externalLabels)
            for index in endpoints.indices where progress.needs(index) { begin(index, progress, request, now) }
        } catch {
            // Nobody was asked, so no endpoint is the better or the worse for it.
            let verdict: Verdict =
                error.isTransient ? .retry(error.reason, after: .zero, httpStatus: 0) : .rejected(error.reason, httpStatus: 0)
            for index in endpoints.indices where progress.needs(index) {
                progress.took(verdict, of: index, name: endpoints[index].config.name)
            }
        }
        finishIfComplete(progress)
    }

    private func finishIfComplete(_ progress: DispatchProgress) {
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

    private func begin(_ index: Int, _ progress: DispatchProgress, _ request: UpstreamRequest, _ now: MonotonicTime) {
        let endpoint = endpoints[index]
        // A single endpoint needs no guard of its own: the gateway probes the receiver.
        guard endpoints.count == 1 || endpoint.admits(now) else {
            let why = "is down: \(endpoint.lastFailure)"
            return progress.took(.retry(why, after: endpoint.pause(now), httpStatus: 0), of: index, name: endpoint.config.name)
        }
        if let tokens = endpoint.tokens, tokens.current(now) == nil { return wait(for: tokens, index, progress, request) }
        guard let transfer = idle[index].popLast() ?? makeTransfer(index) else {
            return progress.took(.retry("no memory for a transfer", after: .zero, httpStatus: 0), of: index, name: endpoint.config.name)
        }
        do throws(Problem) { try transfer.begin(progress, request, to: endpoint, isProbe: endpoint.began()) } catch {
            return take(.retry("\(error)", after: .zero, httpStatus: 0), of: transfer, progress)
        }
        guard add(transfer.curl) else {
            return take(.retry("libcurl refused a transfer", after: .zero, httpStatus: 0), of: transfer, progress)
        }
        active[ObjectIdentifier(transfer)] = transfer
        progress.began()
    }

    private func makeTransfer(_ index: Int) -> Transfer? {
        let transfer = Transfer(endpoints[index].config, endpoint: index, sockets: sockets)
        transfer?.curl.ended = { [unowned self, unowned transfer] result in transfer.map { finish($0, result) } }
        return transfer
    }

    private func add(_ curl: CurlHandle) -> Bool { unsafe curl_multi_add_handle(multi, curl.easy) == CURLM_OK }

    /// Begins the attempt when its endpoint's token has come.
    private func wait(for tokens: TokenSource, _ index: Int, _ progress: DispatchProgress, _ request: UpstreamRequest) {
        progress.began()
        do throws(Problem) {
            let curl = try tokens.wait { [unowned self] failure in
                progress.ended()
                if let failure {
                    progress.took(failure.isEmpty ? .aborted : failed(failure, index), of: index, name: endpoints[index].config.name)
                } else {
                    begin(index, progress, request, .now)
                }
                finishIfComplete(progress)
            }
            guard let curl else { return }
            curl.ended = { [unowned self, unowned tokens] result in
                if let again = tokens.take(result, .now), !add(again) { tokens.finish("oauth2: libcurl refused a request") }
            }
            if !add(curl) { tokens.finish("oauth2: libcurl refused a request") }
        } catch {
            progress.ended()
            progress.took(failed("\(error)", index), of: index, name: endpoints[index].config.name)
        }
    }

    /// Without a token an endpoint is as good as away.
    private func failed(_ reason: String, _ index: Int) -> Verdict {
        let verdict = Verdict.retry(reason, after: .zero, httpStatus: 0)
        endpoints[index].ended(verdict, isProbe: endpoints[index].isDown, bytes: 0, attempt: 1, now: .now)
        health.state(endpoints)
        return verdict
    }

    private func finish(_ transfer: Transfer, _ result: CURLcode) {
        guard let progress = transfer.progress else { return }
        if transfer.followsRedirect(result), add(transfer.curl) { return }
        active[ObjectIdentifier(transfer)] = nil
        let cost = transfer.cost
        let verdict = endpoints[transfer.endpoint].reconsidered(transfer.end(result))
        endpoints[transfer.endpoint].spent(cost)
        idle[transfer.endpoint].append(transfer)
        progress.ended()
        take(verdict, of: transfer, progress)
        finishIfComplete(progress)
    }

    private func take(_ verdict: Verdict, of transfer: Transfer, _ progress: DispatchProgress) {
        let endpoint = endpoints[transfer.endpoint]
        let dispatch = progress.dispatch
        endpoint.ended(verdict, isProbe: transfer.isProbe, bytes: dispatch.byteCount, attempt: dispatch.attempt, now: .now)
        progress.took(verdict, of: transfer.endpoint, name: endpoint.config.name)
        health.state(endpoints)
    }

    /// Gives every open attempt up.
    func abort() {
        for transfer in active.values {
            guard let progress = transfer.progress else { continue }
            unsafe curl_multi_remove_handle(multi, transfer.curl.easy)
            _ = transfer.end(CURLE_OK)
            progress.ended()
            progress.took(.aborted, of: transfer.endpoint, name: "")
            finishIfComplete(progress)
        }
        active = [:]
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

/// Says the health of all endpoints together, when it changes.
final class EndpointHealth {
    private let host: Host
    private var stated = ""

    init(_ host: Host) { self.host = host }

    func state(_ endpoints: [Endpoint]) {
        if stated.isEmpty, !endpoints.contains(where: { $0.isDown || !$0.refusal.isEmpty }) { return }
        let (down, refusing) = (endpoints.filter(\.isDown), endpoints.filter { !$0.refusal.isEmpty })
        let names = (down + refusing).map(\.config.name).joined(separator: ", ")
        guard names != stated else { return }
        stated = names
        if names.isEmpty { return host.setHealth(.ok) }
        let reasons = down.map { "\($0.config.name): \($0.lastFailure)" } + refusing.map { "\($0.config.name): \($0.refusal)" }
        host.setHealth(down.count == endpoints.count || !refusing.isEmpty ? .failed : .degraded, reasons.joined(separator: "; "))
    }
}
