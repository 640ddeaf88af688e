import CCurl
import Glibc
import LinuxSystem

/// Connections of one endpoint that are used and closed together, in their own libcurl multi handle and their own ``PlainPool``; on
/// the thread of the transfers only.
///
/// libcurl counts a connection's age from the time it became idle, so a connection that is always busy never gets old. Therefore a
/// whole generation is replaced: it gets no new transfers, ends when its last transfer has ended, and then its connections close.
/// Its DNS results are dropped with it. ``end()`` must be called before the last reference is released.
@safe final class ConnectionGeneration: SocketOwner {
    /// Made for the first transfer of libcurl.
    private var multi: UnsafeMutableRawPointer?
    /// The connections of the writer's own client; nil when the endpoint is only for libcurl.
    private(set) var plain: PlainPool?
    private var limit: ConnectionLimit
    private let sockets: SocketWatcher
    /// The time at which it is to be replaced.
    let replacedAt: MonotonicTime
    /// The time at which libcurl wants to be called even without a socket event.
    private var timer = MonotonicTime.never
    private var running: [ObjectIdentifier: CurlHandle] = [:]
    private var lookups = LookupQueue()

    /// - Parameters:
    ///   - replacedAt: the time at which it is to be replaced; with ``MonotonicTime/never`` libcurl looks names up again once a
    ///     minute.
    ///   - limit: how many connections it may have, and how many it keeps while they are idle.
    ///   - route: the way to the endpoint for the writer's own client; nil when only libcurl may go there.
    init(_ sockets: SocketWatcher, replacedAt: MonotonicTime, limit: ConnectionLimit, route: PlainRoute?) {
        unsafe multi = nil
        (self.sockets, self.replacedAt, self.limit) = (sockets, replacedAt, limit)
        plain = route.map { PlainPool($0, sockets, of: self, limit: limit) }
    }

    /// - Returns: libcurl's multi handle; nil when there is no memory for it.
    private func makeMulti() -> UnsafeMutableRawPointer? {
        if let multi = unsafe multi { return unsafe multi }
        guard let multi = unsafe ccurl_multi_init() else { return nil }
        // libcurl opens a socket pair for its own wakeup; child processes must not inherit it.
        closeAllOnExec()
        unsafe self.multi = unsafe multi
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe ccurl_multi_set_pointer(multi, CURLMOPT_SOCKETDATA, context)
        unsafe ccurl_multi_set_pointer(multi, CURLMOPT_TIMERDATA, context)
        unsafe ccurl_multi_set_socket(multi) { _, socket, what, context, _ in
            guard let context = unsafe context else { return 0 }
            let generation = unsafe ConnectionGeneration.at(context)
            generation.sockets.watch(socket, what, of: generation)
            return 0
        }
        unsafe ccurl_multi_set_timer(multi) { _, milliseconds, context in
            guard let context = unsafe context else { return 0 }
            unsafe ConnectionGeneration.at(context).timer = milliseconds < 0 ? .never : .now + .milliseconds(milliseconds)
            return 0
        }
        set(limit)
        return unsafe multi
    }

    private static func at(_ context: UnsafeMutableRawPointer) -> ConnectionGeneration {
        unsafe Unmanaged<ConnectionGeneration>.fromOpaque(context).takeUnretainedValue()
    }

    /// Sets another bound; connections beyond it close when they become idle.
    func set(_ limit: ConnectionLimit) {
        self.limit = limit
        plain?.limit = limit
        guard let multi = unsafe multi else { return }
        // The number of kept connections is set too: by default libcurl keeps four for each running transfer, and so closes most of
        // them when a burst ends.
        unsafe ccurl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, limit.kept)
        unsafe ccurl_multi_set_long(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limit.open)
    }

    /// True when it has no transfers, running or waiting.
    var isIdle: Bool { running.isEmpty && lookups.isEmpty && plain?.isIdle != false }

    /// Closes all connections, and removes the transfers that still run.
    func end() {
        plain?.end()
        if let multi = unsafe multi {
            for curl in running.values { unsafe ccurl_multi_remove_handle(multi, curl.easy) }
            unsafe ccurl_multi_cleanup(multi)
        }
        unsafe (running, multi) = ([:], nil)
        sockets.forget(self)
    }

    // MARK: The loop

    /// Tells libcurl that a socket is ready.
    func act(_ socket: Int32, _ ready: Poller.Interest) {
        var bits: Int32 = 0
        if !ready.isDisjoint(with: .readable) { bits |= CURL_CSELECT_IN }
        if !ready.isDisjoint(with: .writable) { bits |= CURL_CSELECT_OUT }
        if !ready.isDisjoint(with: .hangup) { bits |= CURL_CSELECT_ERR }
        act(socket, bits)
    }

    private func act(_ socket: curl_socket_t, _ bits: Int32) {
        guard let multi = unsafe multi else { return }
        var count: Int32 = 0
        unsafe ccurl_multi_socket_action(multi, socket, bits, &count)
    }

    /// The time at which ``turn(_:)`` has work even without a socket event.
    var nextTurn: MonotonicTime { min(timer, plain?.nextTurn ?? .never) }

    func turn(_ now: MonotonicTime) {
        plain?.turn(now)
        guard unsafe multi != nil else { return }
        if timer <= now {
            timer = .never
            act(CURL_SOCKET_TIMEOUT, 0)
        }
        takeFinished()
        startWaiting()
    }

    private func takeFinished() {
        var left: Int32 = 0
        while let multi = unsafe multi, let message = unsafe ccurl_multi_info_read(multi, &left) {
            guard unsafe message.pointee.msg == CURLMSG_DONE, let easy = unsafe message.pointee.easy_handle,
                let curl = unsafe CurlHandle.of(easy)
            else { continue }
            let result = unsafe ccurl_message_result(message)
            unsafe ccurl_multi_remove_handle(multi, easy)
            running[ObjectIdentifier(curl)] = nil
            let others = lookups.ended(curl.place, isKnown: result == CURLE_OK || curl.status != 0)
            curl.ended(result)
            // Each of the waiting transfers would wait just as long for the same lookup.
            for other in others { other.ended(result) }
        }
    }

    private func startWaiting() {
        for curl in lookups.takeReady() {
            curl.goOnWithTimeout()
            if !start(curl) { curl.ended(CURLE_OUT_OF_MEMORY) }
        }
    }

    // MARK: Transfers

    /// Begins a transfer at once, or when the running lookup of the same place has ended.
    ///
    /// - Returns: false when libcurl does not accept the transfer.
    func add(_ curl: CurlHandle) -> Bool {
        curl.generation = self
        guard lookups.mayStart(curl) else { return true }
        if start(curl) { return true }
        _ = lookups.ended(curl.place, isKnown: true)
        return false
    }

    private func start(_ curl: CurlHandle) -> Bool {
        guard let multi = unsafe makeMulti(), unsafe ccurl_multi_add_handle(multi, curl.easy) == CURLM_OK else { return false }
        curl.isStarted = true
        running[ObjectIdentifier(curl)] = curl
        return true
    }

    /// Begins a request of the writer's own client.
    ///
    /// - Returns: false when the endpoint is only for libcurl.
    func add(_ exchange: PlainExchange, _ now: MonotonicTime) -> Bool {
        guard let plain else { return false }
        if exchange.generation !== self { exchange.generation = self }
        plain.begin(exchange, now)
        return true
    }

    /// Cancels a transfer.
    func remove(_ curl: CurlHandle) {
        if running.removeValue(forKey: ObjectIdentifier(curl)) != nil {
            if let multi = unsafe multi { unsafe ccurl_multi_remove_handle(multi, curl.easy) }
            _ = lookups.ended(curl.place, isKnown: true)
        } else {
            lookups.remove(curl)
        }
    }

    /// Opens the socket of a connection for libcurl; by then the host's address is known.
    func open(_ curl: CurlHandle, _ family: Int32, _ type: Int32, _ number: Int32) throws(SystemError) -> curl_socket_t {
        lookups.found(curl.place)
        return try sockets.open(family, type, number, of: self)
    }
}

/// How many connections a generation may have.
struct ConnectionLimit: Equatable {
    /// The most open connections; 0 means no limit.
    var open: Int
    /// The most idle connections that stay open.
    var kept: Int
}

/// The transfers that wait until the first transfer to the same place has its address.
///
/// libcurl uses one thread for each lookup, so with a resolver that hangs there would be as many threads as transfers.
struct LookupQueue {
    private var known: Set<String> = []
    private var waiting: [String: [CurlHandle]] = [:]
    private var ready: [CurlHandle] = []

    var isEmpty: Bool { ready.isEmpty && waiting.values.allSatisfy(\.isEmpty) }

    /// - Returns: false when the transfer must wait.
    mutating func mayStart(_ curl: CurlHandle) -> Bool {
        if known.contains(curl.place) { return true }
        if waiting[curl.place] == nil {
            waiting[curl.place] = []
            return true
        }
        waiting[curl.place]?.append(curl)
        return false
    }

    /// Notes that the address of a place is known; it stays known as long as the generation lives.
    mutating func found(_ place: String) {
        known.insert(place)
        ready += waiting.removeValue(forKey: place) ?? []
    }

    /// Notes that a transfer to a place has ended. If it was the one that did the lookup, the transfers that wait for it start or
    /// end.
    ///
    /// - Returns: the transfers that end too, because the lookup failed.
    mutating func ended(_ place: String, isKnown: Bool) -> [CurlHandle] {
        guard let others = waiting.removeValue(forKey: place) else { return [] }
        guard isKnown else { return others }
        ready += others
        return []
    }

    mutating func takeReady() -> [CurlHandle] {
        defer { ready = [] }
        return ready
    }

    mutating func remove(_ curl: CurlHandle) {
        ready.removeAll { $0 === curl }
        waiting[curl.place]?.removeAll { $0 === curl }
    }
}
