import CCurl
import Glibc
import LinuxSystem
import PushWire

/// A libcurl easy handle with the options that all requests of this plugin share; on the thread of the transfers only.
@safe final class CurlHandle {
    typealias List = UnsafeMutablePointer<curl_slist>

    let easy: UnsafeMutableRawPointer
    /// Called when a request has ended, after the handle was removed from libcurl's multi handle.
    var ended: (CURLcode) -> Void = { _ in }
    /// The key under which transfers share a DNS lookup: the host of the URL, or empty for the endpoint's own URL.
    private(set) var place = ""
    /// The generation of connections that it uses, or used last.
    var generation: ConnectionGeneration?
    /// Whether libcurl has been given the handle since ``prepare()``.
    var isStarted = false
    /// True when a connection could not be opened for lack of descriptors.
    private(set) var isDenied = false
    private var deadline = MonotonicTime.never
    /// Which reading of the endpoint's TLS files the handle has; 0 means that they must be set again.
    var filesGeneration = 0
    /// The beginning of the response body.
    private(set) var answer: [UInt8] = []
    /// Counts what has been received of the response and holds it to bounds.
    private(set) var bounds = AnswerBounds()
    let answerLimit: Int
    private var headers: List?
    private var proxyHeaders: List?
    private var detour: List?
    /// The buffer for libcurl's error message, which says more than the error code.
    private let explanation: UnsafeMutablePointer<CChar>

    /// - Parameters:
    ///   - answerLimit: how many bytes of a response body are kept.
    ///   - keepsAddresses: whether DNS results stay valid as long as the connections; otherwise for a minute.
    /// - Returns: nil when libcurl has no memory for a handle, or is missing.
    init?(timeoutMilliseconds: Int, answerLimit: Int, keepsAddresses: Bool, sockets: SocketWatcher) {
        guard Libcurl.isUsable, let easy = unsafe ccurl_easy_init() else { return nil }
        unsafe self.easy = unsafe easy
        self.answerLimit = answerLimit
        unsafe explanation = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe ccurl_set_pointer(easy, CURLOPT_ERRORBUFFER, explanation)
        unsafe ccurl_set_text(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        unsafe ccurl_set_text(easy, CURLOPT_USERAGENT, "profile-gateway/\(HTTPWriter.version)")
        unsafe ccurl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        // A DNS lookup that still runs at the end is not waited for.
        unsafe ccurl_set_long(easy, CURLOPT_QUICK_EXIT, 1)
        unsafe ccurl_set_long(easy, CURLOPT_DNS_CACHE_TIMEOUT, keepsAddresses ? -1 : 60)
        unsafe ccurl_set_long(easy, CURLOPT_POST, 1)
        unsafe ccurl_set_pointer(easy, CURLOPT_PRIVATE, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_pointer(easy, CURLOPT_CLOSESOCKETDATA, Unmanaged.passUnretained(sockets).toOpaque())
        unsafe ccurl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_open(easy) { handle, _, address in
            guard let handle = unsafe handle, let address = unsafe address?.pointee else { return CURL_SOCKET_BAD }
            return unsafe CurlHandle.at(handle).open(address.family, address.socktype, address.protocol)
        }
        unsafe ccurl_set_close(easy) { context, socket in
            if let context = unsafe context { unsafe Unmanaged<SocketWatcher>.fromOpaque(context).takeUnretainedValue().close(socket) }
            return 0
        }
        takeAnswers()
        watchTurns()
        setTimeout(timeoutMilliseconds)
    }

    private func takeAnswers() {
        unsafe ccurl_set_pointer(easy, CURLOPT_WRITEDATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_write(easy) { bytes, size, count, handle in
            guard let handle = unsafe handle, let bytes = unsafe bytes else { return 0 }
            let received = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
            return unsafe CurlHandle.at(handle).keep(received) ? size * count : 0
        }
        unsafe ccurl_set_pointer(easy, CURLOPT_HEADERDATA, Unmanaged.passUnretained(self).toOpaque())
        // Called for each line of a head, of trailers, and of a proxy's response; libcurl keeps the lines, and does not bound
        // trailers.
        unsafe ccurl_set_header(easy) { bytes, size, count, handle in
            guard let handle = unsafe handle, let bytes = unsafe bytes else { return 0 }
            let line = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
            return unsafe CurlHandle.at(handle).bounds.takesHead(line) ? size * count : 0
        }
    }

    private func watchTurns() {
        unsafe ccurl_set_long(easy, CURLOPT_NOPROGRESS, 0)
        unsafe ccurl_set_pointer(easy, CURLOPT_XFERINFODATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_progress(easy) { handle, _, _, _, sent in
            guard let handle = unsafe handle else { return 0 }
            return unsafe CurlHandle.at(handle).takesTurn(sent: Int(sent)) ? 0 : 1
        }
    }

    private func takesTurn(sent: Int) -> Bool {
        // With HTTP/2, progress may belong to another request on the same connection.
        guard bounds.hasHead, number(CURLINFO_HTTP_VERSION) <= Int(CURL_HTTP_VERSION_1_1) else { return true }
        return bounds.takesTurn(sent: sent, .now)
    }

    private static func at(_ handle: UnsafeMutableRawPointer) -> CurlHandle {
        unsafe Unmanaged<CurlHandle>.fromOpaque(handle).takeUnretainedValue()
    }

    deinit {
        unsafe ccurl_easy_cleanup(easy)
        unsafe ccurl_slist_free_all(headers)
        unsafe ccurl_slist_free_all(proxyHeaders)
        unsafe ccurl_slist_free_all(detour)
        unsafe explanation.deallocate()
    }

    /// The object that belongs to a libcurl handle.
    static func of(_ easy: UnsafeMutableRawPointer) -> CurlHandle? {
        var pointer: UnsafeMutableRawPointer?
        unsafe ccurl_get_pointer(easy, CURLINFO_PRIVATE, &pointer)
        return unsafe pointer.map { unsafe Unmanaged<CurlHandle>.fromOpaque($0).takeUnretainedValue() }
    }

    private func open(_ family: Int32, _ type: Int32, _ number: Int32) -> curl_socket_t {
        guard let generation else { return CURL_SOCKET_BAD }
        do throws(SystemError) {
            return try generation.open(self, family, type, number)
        } catch {
            // Other errors, such as an address family that this machine does not support, are not a lack of descriptors.
            if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.code) { isDenied = true }
            return CURL_SOCKET_BAD
        }
    }

    /// Whether a request failed without any response, so that its connection and others of the same generation are suspect.
    func isLost(_ result: CURLcode) -> Bool { result != CURLE_OK && isStarted && !isDenied && status == 0 && bounds.excess == nil }

    /// Keeps the beginning of a response body; the rest is read and dropped, so that the connection can be reused.
    ///
    /// - Returns: false when the body is too large even to be read.
    private func keep(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let room = answerLimit - answer.count
        if room > 0 { unsafe answer.append(contentsOf: bytes.prefix(room)) }
        return bounds.takesBody(bytes.count)
    }

    // MARK: Request

    /// Resets the state of the previous request.
    func prepare() {
        answer.removeAll(keepingCapacity: true)
        bounds = AnswerBounds()
        (isStarted, isDenied) = (false, false)
        unsafe explanation.pointee = 0
    }

    func setTimeout(_ milliseconds: Int) { setTimeout(until: .now + .milliseconds(milliseconds)) }

    func setTimeout(until deadline: MonotonicTime) {
        self.deadline = deadline
        goOnWithTimeout()
    }

    /// Sets the timeout to the rest of the deadline, because libcurl counts from the time when it gets the handle.
    func goOnWithTimeout() {
        // Rounded up, because 0 would mean no limit.
        let left = deadline.since(.now).inNanoseconds.addingSaturated(999_999) / 1_000_000
        unsafe ccurl_set_long(easy, CURLOPT_TIMEOUT_MS, max(1, Int(left)))
    }

    /// Sets the place that the next request connects to.
    func setPlace(_ place: String) { self.place = place }

    /// Sets whether the next request must open a new connection.
    func setFresh(_ isFresh: Bool) { unsafe ccurl_set_long(easy, CURLOPT_FRESH_CONNECT, isFresh ? 1 : 0) }

    /// Sets the headers, which libcurl writes unchanged; a header with an empty value removes the one that libcurl would send by
    /// itself.
    func setHeaders(_ headers: [(name: String, value: String)]) throws(WrittenHead.Refusal) {
        for header in headers { try WrittenHead.check(header) }
        unsafe ccurl_slist_free_all(self.headers)
        unsafe self.headers = unsafe Self.list(headers.map { $0.value.isEmpty ? "\($0.name):" : "\($0.name): \($0.value)" })
        unsafe ccurl_set_list(easy, CURLOPT_HTTPHEADER, self.headers)
    }

    func setProxyHeaders(_ headers: [(name: String, value: String)]) throws(WrittenHead.Refusal) {
        for header in headers { try WrittenHead.check(header) }
        unsafe ccurl_slist_free_all(proxyHeaders)
        unsafe proxyHeaders = unsafe Self.list(headers.map { "\($0.name): \($0.value)" })
        unsafe ccurl_set_list(easy, CURLOPT_PROXYHEADER, proxyHeaders)
    }

    /// Has libcurl connect to another host than the URL's: `host:port:host:port`; nil connects to the URL's host.
    func setDetour(_ detour: String?) {
        unsafe ccurl_slist_free_all(self.detour)
        unsafe self.detour = unsafe Self.list([detour].compactMap(\.self))
        unsafe ccurl_set_list(easy, CURLOPT_CONNECT_TO, self.detour)
    }

    private static func list(_ lines: [String]) -> List? {
        unsafe lines.reduce(nil) { unsafe ccurl_slist_append($0, $1) }
    }

    /// Sets the body; its memory must stay valid until the request has ended.
    func setBody(_ body: UnsafeRawBufferPointer) {
        unsafe ccurl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        // Never NULL: with NULL, libcurl would ask a read callback for the body.
        unsafe ccurl_set_pointer(easy, CURLOPT_POSTFIELDS, body.baseAddress ?? UnsafeRawPointer(easy))
    }

    // MARK: Answer

    /// Whether a request ended with a complete response.
    func isWhole(_ result: CURLcode) -> Bool { result == CURLE_OK && bounds.hasHead }

    var status: Int { isStarted ? number(CURLINFO_RESPONSE_CODE) : 0 }

    func number(_ what: CURLINFO) -> Int {
        var number = 0
        unsafe ccurl_get_long(easy, what, &number)
        return number
    }

    func offset(_ what: CURLINFO) -> Int {
        var offset: curl_off_t = 0
        unsafe ccurl_get_offset(easy, what, &offset)
        return Int(offset)
    }

    func text(_ what: CURLINFO) -> String? {
        var text: UnsafeMutableRawPointer?
        unsafe ccurl_get_pointer(easy, what, &text)
        return unsafe text.map { unsafe String(cString: $0.assumingMemoryBound(to: CChar.self)) }
    }

    /// The error message for people.
    func words(for result: CURLcode) -> String {
        if result == CURLE_OK, !bounds.hasHead { return "the answer ended in the middle of its head" }
        return unsafe String(cString: explanation.pointee == 0 ? ccurl_easy_strerror(result) : UnsafePointer(explanation))
    }
}
