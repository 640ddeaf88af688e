import CCurl
import Glibc
import LinuxSystem

/// Connections of one endpoint that live and end together, in a libcurl multi handle of their own; on the transfer thread only.
///
/// libcurl counts a connection's age from when it is idle, which one that is always busy never is. So a whole generation is replaced:
/// it gets no new transfers, ends with the last of those that it has, and then its connections close. What it has looked up goes
/// with it. ``end()`` must be called before the last reference goes.
@safe final class ConnectionGeneration {
    private let multi: UnsafeMutableRawPointer
    private let sockets: SocketWatcher
    /// When it is to be replaced.
    let replacedAt: MonotonicTime
    /// When libcurl wants to be called though nothing has happened.
    private(set) var timer = MonotonicTime.never
    private var running: [ObjectIdentifier: CurlHandle] = [:]
    private var lookups = LookupQueue()

    /// - Parameters:
    ///   - replacedAt: when it is to be replaced; ``MonotonicTime/never`` has libcurl look names up again once a minute.
    ///   - limit: how many connections it may have, and keep while they are idle.
    init(_ sockets: SocketWatcher, replacedAt: MonotonicTime, limit: ConnectionLimit) throws(SystemError) {
        guard let multi = unsafe curl_multi_init() else { throw SystemError("curl_multi_init", code: ENOMEM) }
        // libcurl wakes itself by a pair of sockets that a program would inherit.
        closeAllOnExec()
        unsafe self.multi = unsafe multi
        (self.sockets, self.replacedAt) = (sockets, replacedAt)
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
    }

    private static func at(_ context: UnsafeMutableRawPointer) -> ConnectionGeneration {
        unsafe Unmanaged<ConnectionGeneration>.fromOpaque(context).takeUnretainedValue()
    }

    /// Takes another bound; connections beyond it close when they are idle again.
    func set(_ limit: ConnectionLimit) {
        // Kept as well as open: by default libcurl keeps four a transfer that is under way, so it closes most when a burst is over.
        unsafe ccurl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, limit.kept)
        unsafe ccurl_multi_set_long(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limit.open)
    }

    /// True when no transfer is in it.
    var isIdle: Bool { running.isEmpty && lookups.isEmpty }

    /// Closes all connections; nothing may be in it then.
    func end() {
        for curl in running.values { unsafe curl_multi_remove_handle(multi, curl.easy) }
        running = [:]
        unsafe curl_multi_cleanup(multi)
        sockets.forget(self)
    }

    // MARK: The loop

    /// Tells libcurl that a socket is ready.
    func act(_ socket: curl_socket_t, _ bits: Int32) {
        var count: Int32 = 0
        unsafe curl_multi_socket_action(multi, socket, bits, &count)
    }

    func turn(_ now: MonotonicTime) {
        if timer <= now {
            timer = .never
            act(CURL_SOCKET_TIMEOUT, 0)
        }
        takeFinished()
        startWaiting()
    }

    private func takeFinished() {
        var left: Int32 = 0
        while let message = unsafe curl_multi_info_read(multi, &left) {
            guard unsafe message.pointee.msg == CURLMSG_DONE, let easy = unsafe message.pointee.easy_handle,
                let curl = unsafe CurlHandle.of(easy)
            else { continue }
            let result = unsafe ccurl_message_result(message)
            unsafe curl_multi_remove_handle(multi, easy)
            running[ObjectIdentifier(curl)] = nil
            let others = lookups.ended(curl.place, isKnown: result == CURLE_OK || curl.status != 0)
            curl.ended(result)
            // Each of them would wait for the same lookup as long again.
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

    /// Begins a transfer, at once or when the lookup of its place that is under way has ended.
    ///
    /// - Returns: false when libcurl does not take it.
    func add(_ curl: CurlHandle) -> Bool {
        curl.generation = self
        guard lookups.mayStart(curl) else { return true }
        if start(curl) { return true }
        _ = lookups.ended(curl.place, isKnown: true)
        return false
    }

    private func start(_ curl: CurlHandle) -> Bool {
        guard unsafe curl_multi_add_handle(multi, curl.easy) == CURLM_OK else { return false }
        curl.isStarted = true
        running[ObjectIdentifier(curl)] = curl
        return true
    }

    /// Gives a transfer up.
    func remove(_ curl: CurlHandle) {
        if running.removeValue(forKey: ObjectIdentifier(curl)) != nil {
            unsafe curl_multi_remove_handle(multi, curl.easy)
            _ = lookups.ended(curl.place, isKnown: true)
        } else {
            lookups.remove(curl)
        }
    }

    /// Opens the socket of a connection for libcurl, which has its address then.
    func open(_ curl: CurlHandle, _ family: Int32, _ type: Int32, _ number: Int32) throws(SystemError) -> curl_socket_t {
        lookups.found(curl.place)
        return try sockets.open(family, type, number, of: self)
    }
}

/// How many connections a generation may have.
struct ConnectionLimit: Equatable {
    /// 0 is no limit.
    var open: Int
    /// How many stay open while they are idle.
    var kept: Int
}

/// The transfers that wait until the first one to the same place has its address.
///
/// libcurl looks names up on a thread for each, so a resolver that hangs would cost as many threads as there are transfers.
struct LookupQueue {
    private var known: Set<String> = []
    private var waiting: [String: [CurlHandle]] = [:]
    private var ready: [CurlHandle] = []

    var isEmpty: Bool { ready.isEmpty && waiting.values.allSatisfy(\.isEmpty) }

    /// - Returns: false when the transfer waits.
    mutating func mayStart(_ curl: CurlHandle) -> Bool {
        if known.contains(curl.place) { return true }
        if waiting[curl.place] == nil {
            waiting[curl.place] = []
            return true
        }
        waiting[curl.place]?.append(curl)
        return false
    }

    /// An address is there, and is kept as long as the generation.
    mutating func found(_ place: String) {
        known.insert(place)
        ready += waiting.removeValue(forKey: place) ?? []
    }

    /// A transfer to a place has ended; when it was the one that looked it up, those who wait for it go on or end as well.
    ///
    /// - Returns: those who end.
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
