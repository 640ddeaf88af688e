import CCurl
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
    private var answer: [UInt8] = []
    /// Where libcurl says what went wrong, with more words than its error code has.
    private let explanation: UnsafeMutablePointer<CChar>

    /// - Returns: nil when libcurl has no memory for a handle.
    init?(_ config: WriterConfig.Endpoint, endpoint: Int, sockets: SocketWatcher) {
        guard let handle = unsafe curl_easy_init() else { return nil }
        unsafe self.handle = unsafe handle
        self.endpoint = endpoint
        unsafe explanation = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe ccurl_set_pointer(handle, CURLOPT_ERRORBUFFER, explanation)
        unsafe ccurl_set_text(handle, CURLOPT_URL, config.url)
        unsafe ccurl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
        // Empty, not absent: the environment's proxy variables are not ours to obey.
        unsafe ccurl_set_text(handle, CURLOPT_PROXY, "")
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
    }

    deinit {
        unsafe curl_easy_cleanup(handle)
        unsafe curl_slist_free_all(headers)
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
    func begin(_ progress: DispatchProgress, _ request: UpstreamRequest, to config: WriterConfig.Endpoint, isProbe: Bool) {
        self.isProbe = isProbe
        self.progress = progress
        self.request = request
        answer.removeAll(keepingCapacity: true)
        unsafe explanation.pointee = 0
        unsafe ccurl_set_text(handle, CURLOPT_REQUEST_TARGET, config.path + request.target)
        var headers = request.headers
        if request.message != nil { headers.append(("Connect-Timeout-Ms", "\(config.timeoutMilliseconds)")) }
        setHeaders(headers, config.headers)
        let body = unsafe request.body(of: progress.dispatch.profile)
        unsafe ccurl_set_offset(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        // Never NULL: that would make libcurl ask a read callback for the body.
        unsafe ccurl_set_pointer(handle, CURLOPT_POSTFIELDS, body.baseAddress ?? UnsafeRawPointer(handle))
    }

    private func setHeaders(_ own: [(name: String, value: String)], _ configured: [(name: String, value: String)]) {
        unsafe curl_slist_free_all(headers)
        unsafe headers = nil
        add("Expect", "")
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

    /// Reads what came of the request and lets go of it.
    func end(_ result: CURLcode) -> Verdict {
        let isConnect = request?.message != nil
        (progress, request) = (nil, nil)
        guard result == CURLE_OK else {
            let words = unsafe String(cString: explanation.pointee == 0 ? curl_easy_strerror(result) : UnsafePointer(explanation))
            return .retry(words, after: .zero, httpStatus: 0)
        }
        var status = 0
        var retryAfter: curl_off_t = 0
        unsafe ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        unsafe ccurl_get_offset(handle, CURLINFO_RETRY_AFTER, &retryAfter)
        return UpstreamAnswer(status: status, body: answer, retryAfter: .seconds(max(0, retryAfter)), isConnect: isConnect).verdict
    }
}
