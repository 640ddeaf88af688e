import CCurl
import Glibc
import LinuxSystem
import PushWire

/// A libcurl handle, with what all requests of this plugin have in common; on the transfer thread only.
@safe final class CurlHandle {
    typealias List = UnsafeMutablePointer<curl_slist>

    let easy: UnsafeMutableRawPointer
    /// Called when a request has ended, after the handle has left libcurl's multi handle.
    var ended: (CURLcode) -> Void = { _ in }
    /// The host and port that it connects to; transfers to the same place share one lookup.
    private(set) var place = ""
    /// The connections that it runs on, or ran on last.
    var generation: ConnectionGeneration?
    /// Whether libcurl has had it since ``prepare()``.
    var isStarted = false
    /// True when a connection could not be opened for lack of descriptors.
    private(set) var isDenied = false
    private var deadline = MonotonicTime.never
    /// Which reading of its endpoint's files the handle has; 0 has it take them anew.
    var filesGeneration = 0
    /// The beginning of the answer.
    private(set) var answer: [UInt8] = []
    /// How much of it has come.
    private(set) var bounds = AnswerBounds()
    let answerLimit: Int
    private var headers: List?
    private var proxyHeaders: List?
    private var detour: List?
    /// Where libcurl says what went wrong, with more words than its error code has.
    private let explanation: UnsafeMutablePointer<CChar>

    /// - Parameters:
    ///   - answerLimit: how much of an answer is kept.
    ///   - keepsAddresses: whether what was looked up holds as long as the connections do; else for a minute.
    /// - Returns: nil when libcurl has no memory for a handle.
    init?(timeoutMilliseconds: Int, answerLimit: Int, keepsAddresses: Bool, sockets: SocketWatcher) {
        guard let easy = unsafe curl_easy_init() else { return nil }
        unsafe self.easy = unsafe easy
        self.answerLimit = answerLimit
        unsafe explanation = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe ccurl_set_pointer(easy, CURLOPT_ERRORBUFFER, explanation)
        unsafe ccurl_set_text(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        unsafe ccurl_set_text(easy, CURLOPT_USERAGENT, "profile-gateway/\(HTTPWriter.version)")
        unsafe ccurl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        // A host name that nobody answers for is not waited for at the end.
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
        // Every line of a head, of trailers, and of what a proxy says first; libcurl keeps the lines, and has no bound for trailers.
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
        // A turn of HTTP/2 may be another request's.
        guard bounds.hasHead, number(CURLINFO_HTTP_VERSION) <= Int(CURL_HTTP_VERSION_1_1) else { return true }
        return bounds.takesTurn(sent: sent, .now)
    }

    private static func at(_ handle: UnsafeMutableRawPointer) -> CurlHandle {
        unsafe Unmanaged<CurlHandle>.fromOpaque(handle).takeUnretainedValue()
    }

    deinit {
        unsafe curl_easy_cleanup(easy)
        unsafe curl_slist_free_all(headers)
        unsafe curl_slist_free_all(proxyHeaders)
        unsafe curl_slist_free_all(detour)
        unsafe explanation.deallocate()
    }

    /// The object of a handle that libcurl names.
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
            // Not for a family of addresses that this machine does not have.
            if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.code) { isDenied = true }
            return CURL_SOCKET_BAD
        }
    }

    /// Whether a request has ended in a way that makes its connection, and those like it, suspect: nothing came.
    func isLost(_ result: CURLcode) -> Bool { result != CURLE_OK && isStarted && !isDenied && status == 0 && bounds.excess == nil }

    /// Only the beginning of an answer is kept; the rest is read and forgotten, so that the connection can be reused.
    ///
    /// - Returns: false when it is too much even to be read.
    private func keep(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let room = answerLimit - answer.count
        if room > 0 { unsafe answer.append(contentsOf: bytes.prefix(room)) }
        return bounds.takesBody(bytes.count)
    }

    // MARK: Request

    /// Forgets the request before.
    func prepare() {
        answer.removeAll(keepingCapacity: true)
        bounds = AnswerBounds()
        (isStarted, isDenied) = (false, false)
        unsafe explanation.pointee = 0
    }

    func setTimeout(_ milliseconds: Int) {
        unsafe ccurl_set_long(easy, CURLOPT_TIMEOUT_MS, milliseconds)
        deadline = .now + .milliseconds(milliseconds)
    }

    /// Goes on with what is left of the time, which libcurl counts from when it gets the handle.
    func goOnWithTimeout() { setTimeout(max(1, Int(deadline.since(.now).inNanoseconds / 1_000_000))) }

    /// Says where the next request connects to.
    func setPlace(_ place: String) { self.place = place }

    /// Whether a connection that is there already will not do.
    func setFresh(_ isFresh: Bool) { unsafe ccurl_set_long(easy, CURLOPT_FRESH_CONNECT, isFresh ? 1 : 0) }

    /// Sets the headers, which libcurl writes as they are; an empty value takes out what it would send by itself.
    func setHeaders(_ headers: [(name: String, value: String)]) throws(WrittenHead.Refusal) {
        for header in headers { try WrittenHead.check(header) }
        unsafe curl_slist_free_all(self.headers)
        unsafe self.headers = unsafe Self.list(headers.map { $0.value.isEmpty ? "\($0.name):" : "\($0.name): \($0.value)" })
        unsafe ccurl_set_list(easy, CURLOPT_HTTPHEADER, self.headers)
    }

    func setProxyHeaders(_ headers: [(name: String, value: String)]) throws(WrittenHead.Refusal) {
        for header in headers { try WrittenHead.check(header) }
        unsafe curl_slist_free_all(proxyHeaders)
        unsafe proxyHeaders = unsafe Self.list(headers.map { "\($0.name): \($0.value)" })
        unsafe ccurl_set_list(easy, CURLOPT_PROXYHEADER, proxyHeaders)
    }

    /// Where another host is to be found: `host:port:host:port`; nil where its name says.
    func setDetour(_ detour: String?) {
        unsafe curl_slist_free_all(self.detour)
        unsafe self.detour = unsafe Self.list([detour].compactMap(\.self))
        unsafe ccurl_set_list(easy, CURLOPT_CONNECT_TO, self.detour)
    }

    private static func list(_ lines: [String]) -> List? {
        unsafe lines.reduce(nil) { unsafe curl_slist_append($0, $1) }
    }

    /// Sets the body, which must stay where it is until the request has ended.
    func setBody(_ body: UnsafeRawBufferPointer) {
        unsafe ccurl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        // Never NULL: that would make libcurl ask a read callback for the body.
        unsafe ccurl_set_pointer(easy, CURLOPT_POSTFIELDS, body.baseAddress ?? UnsafeRawPointer(easy))
    }

    // MARK: Answer

    /// Whether a request ended with a whole answer.
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

    /// What went wrong, for people.
    func words(for result: CURLcode) -> String {
        if result == CURLE_OK, !bounds.hasHead { return "the answer ended in the middle of its head" }
        return unsafe String(cString: explanation.pointee == 0 ? curl_easy_strerror(result) : UnsafePointer(explanation))
    }
}
