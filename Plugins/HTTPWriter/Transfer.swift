import CCurl
import ConfigJSON
import LinuxSystem
import PluginKit

/// One HTTP request on a libcurl handle, which serves one request after another; on the transfer thread only.
///
/// While a request is under way, the handle points into this object and into the profile's bytes, which nothing copies.
@safe final class Transfer {
    let handle: UnsafeMutableRawPointer
    let endpoint: Int
    private(set) var progress: DispatchProgress?
    private var request: UpstreamRequest?
    /// True when this request finds out whether a destination that was down answers again.
    private(set) var isProbe = false
    private var headers: UnsafeMutablePointer<curl_slist>?
    var proxyHeaders: UnsafeMutablePointer<curl_slist>?
    var detour: UnsafeMutablePointer<curl_slist>?
    /// Which reading of the endpoint's files the handle has.
    var filesGeneration = 0
    private let config: EndpointConfig
    private var authorization: String?
    private var hops = 0
    private var answer: [UInt8] = []
    /// Where libcurl says what went wrong, with more words than its error code has.
    private let explanation: UnsafeMutablePointer<CChar>

    /// - Returns: nil when libcurl has no memory for a handle.
    init?(_ config: EndpointConfig, endpoint: Int, sockets: SocketWatcher) {
        guard let handle = unsafe curl_easy_init() else { return nil }
        unsafe self.handle = unsafe handle
        self.endpoint = endpoint
        self.config = config
        unsafe explanation = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe ccurl_set_pointer(handle, CURLOPT_ERRORBUFFER, explanation)
        unsafe ccurl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
        unsafe ccurl_set_text(handle, CURLOPT_USERAGENT, "profile-gateway/\(HTTPWriter.version)")
        unsafe ccurl_set_long(handle, CURLOPT_NOSIGNAL, 1)
        unsafe ccurl_set_long(handle, CURLOPT_POST, 1)
        unsafe ccurl_set_long(handle, CURLOPT_TIMEOUT_MS, config.timeoutMilliseconds)
        unsafe ccurl_set_pointer(handle, CURLOPT_PRIVATE, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_pointer(handle, CURLOPT_CLOSESOCKETDATA, Unmanaged.passUnretained(sockets).toOpaque())
        unsafe ccurl_set_pointer(handle, CURLOPT_OPENSOCKETDATA, Unmanaged.passUnretained(sockets).toOpaque())
        unsafe ccurl_set_open(handle) { context, _, address in
            guard let context = unsafe context, let address = unsafe address?.pointee else { return -1 }
            return unsafe SocketWatcher.at(context).open(address.family, address.socktype, address.protocol)
        }
        unsafe ccurl_set_close(handle) { context, socket in
            if let context = unsafe context { unsafe SocketWatcher.at(context).close(socket) }
            return 0
        }
        unsafe ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_write(handle) { bytes, size, count, transfer in
            guard let transfer = unsafe transfer, let bytes = unsafe bytes else { return 0 }
            let received = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
            unsafe Unmanaged<Transfer>.fromOpaque(transfer).takeUnretainedValue().keep(received)
            return size * count
        }
        setConnectionOptions(config)
    }

    deinit {
        unsafe curl_easy_cleanup(handle)
        unsafe curl_slist_free_all(headers)
        unsafe curl_slist_free_all(proxyHeaders)
        unsafe curl_slist_free_all(detour)
        unsafe explanation.deallocate()
    }

    /// The transfer a finished handle belongs to.
    static func of(_ handle: UnsafeMutableRawPointer) -> Transfer? {
        var pointer: UnsafeMutableRawPointer?
        unsafe ccurl_get_pointer(handle, CURLINFO_PRIVATE, &pointer)
        return unsafe pointer.map { unsafe Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Only the beginning of an answer is for people; the rest is read and forgotten, so that the connection can be reused.
    private func keep(_ bytes: UnsafeRawBufferPointer) {
        let room = UpstreamAnswer.bodyLimit - answer.count
        if room > 0 { unsafe answer.append(contentsOf: bytes.prefix(room)) }
    }

    /// Points the handle at a request; its profile must stay until ``end()``.
    func begin(_ progress: DispatchProgress, _ request: UpstreamRequest, to endpoint: Endpoint, isProbe: Bool) throws(Problem) {
        self.isProbe = isProbe
        authorization = try endpoint.credentials.current()
        try endpoint.files.refresh()
        setFiles(endpoint.files)
        (self.progress, self.request, hops) = (progress, request, 0)
        answer.removeAll(keepingCapacity: true)
        unsafe explanation.pointee = 0
        setTarget(request.target, of: config)
        setHeaders(request, withCredentials: true)
        let body = unsafe request.body(of: progress.dispatch.profile, for: config)
        unsafe ccurl_set_offset(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        // Never NULL: that would make libcurl ask a read callback for the body.
        unsafe ccurl_set_pointer(handle, CURLOPT_POSTFIELDS, body.baseAddress ?? UnsafeRawPointer(handle))
    }

    private func setHeaders(_ request: UpstreamRequest, withCredentials: Bool) {
        unsafe curl_slist_free_all(headers)
        unsafe headers = nil
        add("Expect", "")
        var own = request.headers(of: config)
        if request.message != nil { own.append(("Connect-Timeout-Ms", "\(config.timeoutMilliseconds)")) }
        if let authorization, withCredentials { own.append(("Authorization", authorization)) }
        if config.connection.serverName != nil, withCredentials, let place = UpstreamURL.place(of: config.url) {
            own.append(("Host", "\(place.host):\(place.port)"))
        }
        // What a config adds may be a secret as well as not.
        let configured = withCredentials ? config.headers : []
        for header in own where !configured.contains(where: { $0.name.lowercased() == header.name.lowercased() }) {
            add(header.name, header.value)
        }
        for header in configured { add(header.name, header.value) }
        unsafe ccurl_set_list(handle, CURLOPT_HTTPHEADER, headers)
    }

    /// An empty value takes out what libcurl would send by itself.
    private func add(_ name: String, _ value: String) {
        unsafe headers = unsafe curl_slist_append(headers, value.isEmpty ? "\(name):" : "\(name): \(value)")
    }

    // MARK: Redirects

    private static let maximumHops = 10

    /// Turns to where the answer sends the request, when it may go there; the handle has to be added again then.
    ///
    /// The method stays and the body with it. Never from https to http, and what could be a secret goes to the same host only.
    func followsRedirect(_ result: CURLcode) -> Bool {
        guard result == CURLE_OK, config.followsRedirects, let request, hops < Self.maximumHops, [301, 302, 307, 308].contains(status)
        else {
            return false
        }
        var location: UnsafeMutableRawPointer?
        unsafe ccurl_get_pointer(handle, CURLINFO_REDIRECT_URL, &location)
        guard let url = unsafe location.map({ unsafe String(cString: $0.assumingMemoryBound(to: CChar.self)) }),
            let from = UpstreamURL.place(of: config.url), let to = UpstreamURL.place(of: url),
            to.scheme == from.scheme || to.scheme == "https"
        else { return false }
        hops += 1
        answer.removeAll(keepingCapacity: true)
        unsafe ccurl_set_text(handle, CURLOPT_URL, url)
        unsafe ccurl_set_text(handle, CURLOPT_REQUEST_TARGET, nil)
        unsafe ccurl_set_list(handle, CURLOPT_CONNECT_TO, nil)
        setHeaders(request, withCredentials: to.host == from.host && to.port == from.port)
        return true
    }

    private var status: Int {
        var status = 0
        unsafe ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        return status
    }

    // MARK: End

    /// What the request cost, for the metrics.
    struct Cost {
        var nanoseconds: Int64 = 0
        var openedConnections = 0
        var wireBytes = 0
    }

    private(set) var cost = Cost()

    private func measure() {
        var (microseconds, uploaded): (curl_off_t, curl_off_t) = (0, 0)
        var (connections, head) = (0, 0)
        unsafe ccurl_get_offset(handle, CURLINFO_TOTAL_TIME_T, &microseconds)
        unsafe ccurl_get_offset(handle, CURLINFO_SIZE_UPLOAD_T, &uploaded)
        unsafe ccurl_get_long(handle, CURLINFO_NUM_CONNECTS, &connections)
        unsafe ccurl_get_long(handle, CURLINFO_REQUEST_SIZE, &head)
        // REQUEST_SIZE has bodies in it that libcurl sent in one piece with their heads.
        cost = Cost(nanoseconds: Int64(microseconds) * 1000, openedConnections: connections, wireBytes: max(head, Int(uploaded)))
    }

    /// Reads what came of the request and lets go of it.
    func end(_ result: CURLcode) -> Verdict {
        let isConnect = request?.message != nil
        (progress, request) = (nil, nil)
        measure()
        guard result == CURLE_OK else {
            let words = unsafe String(cString: explanation.pointee == 0 ? curl_easy_strerror(result) : UnsafePointer(explanation))
            return .retry(words, after: .zero, httpStatus: 0)
        }
        var retryAfter: curl_off_t = 0
        unsafe ccurl_get_offset(handle, CURLINFO_RETRY_AFTER, &retryAfter)
        return UpstreamAnswer(
            status: status, body: answer, retryAfter: .seconds(max(0, retryAfter)), isConnect: isConnect, retriesOn429: config.retriesOn429,
            retriesOn422: config.retriesOn422
        ).verdict
    }
}
