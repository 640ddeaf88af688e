import CCurl
import ConfigJSON
import LinuxSystem
import PushWire

/// Sends requests one after another, for commands that talk to a server; uses libcurl, which is loaded when the client is made.
@safe final class HTTPClient {
    /// The response.
    struct Answer {
        let status: Int
        let media: AnswerMedia
        /// Which bound of ``AnswerBounds`` the response exceeded, in words; nil when none.
        var excess: String?
    }

    /// Why there is no response.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let handle: UnsafeMutableRawPointer
    private var received: [UInt8] = []
    private var bounds = AnswerBounds()

    init() throws(Failure) {
        if let why = unsafe ccurl_open() { throw Failure(description: unsafe String(cString: why)) }
        guard let handle = unsafe ccurl_easy_init() else { throw Failure(description: "libcurl has no memory") }
        unsafe self.handle = unsafe handle
        unsafe ccurl_set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https")
        unsafe ccurl_set_text(handle, CURLOPT_USERAGENT, "profile-gateway/\(RunningGateway.version)")
        unsafe ccurl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, 10_000)
        unsafe ccurl_set_long(handle, CURLOPT_TIMEOUT_MS, 60_000)
        if let exceptions = Self.withoutProxy { unsafe ccurl_set_text(handle, CURLOPT_NOPROXY, exceptions) }
        takeAnswers()
        watchTurns()
    }

    deinit { unsafe ccurl_easy_cleanup(handle) }

    private func takeAnswers() {
        unsafe ccurl_set_pointer(handle, CURLOPT_WRITEDATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_write(handle) { bytes, size, count, client in
            guard let client = unsafe client, let bytes = unsafe bytes else { return 0 }
            let part = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
            return unsafe HTTPClient.at(client).keep(part) ? size * count : 0
        }
        unsafe ccurl_set_pointer(handle, CURLOPT_HEADERDATA, Unmanaged.passUnretained(self).toOpaque())
        // Called for each line of a head, of trailers, and of a proxy's response; libcurl keeps the lines, and does not bound
        // trailers.
        unsafe ccurl_set_header(handle) { bytes, size, count, client in
            guard let client = unsafe client, let bytes = unsafe bytes else { return 0 }
            let line = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
            return unsafe HTTPClient.at(client).bounds.takesHead(line) ? size * count : 0
        }
    }

    private func watchTurns() {
        unsafe ccurl_set_long(handle, CURLOPT_NOPROGRESS, 0)
        unsafe ccurl_set_pointer(handle, CURLOPT_XFERINFODATA, Unmanaged.passUnretained(self).toOpaque())
        unsafe ccurl_set_progress(handle) { client, _, _, _, sent in
            guard let client = unsafe client else { return 0 }
            return unsafe HTTPClient.at(client).bounds.takesTurn(sent: Int(sent), .now) ? 0 : 1
        }
    }

    private static func at(_ client: UnsafeMutableRawPointer) -> HTTPClient {
        unsafe Unmanaged<HTTPClient>.fromOpaque(client).takeUnretainedValue()
    }

    private func keep(_ part: UnsafeRawBufferPointer) -> Bool {
        guard bounds.takesBody(part.count) else { return false }
        unsafe received.append(contentsOf: part)
        return true
    }

    // MARK: Proxies

    /// The hosts to reach without the environment's proxy: this machine, and those in `no_proxy`; nil when `no_proxy` is all hosts.
    private static var withoutProxy: String? {
        let said = (environmentVariable("no_proxy") ?? environmentVariable("NO_PROXY")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        // libcurl takes a star for all hosts only if it stands alone.
        if said == "*" { return nil }
        return "\(said),localhost,127.0.0.0/8,0.0.0.0,::1,::,::ffff:127.0.0.1"
    }

    /// Uses no proxy, even if the environment names one.
    func goDirectly() { unsafe ccurl_set_text(handle, CURLOPT_PROXY, "") }

    /// Connects to the Unix socket at a path, whatever host the URL names.
    func connect(throughSocket path: String) { unsafe ccurl_set_text(handle, CURLOPT_UNIX_SOCKET_PATH, path) }

    // MARK: Requests

    /// Trusts only a server with this certificate.
    ///
    /// - Parameter certificate: in PEM.
    func trustOnly(_ certificate: [UInt8]) {
        var certificate = certificate
        unsafe certificate.withUnsafeMutableBytes { bytes in
            var blob = unsafe curl_blob(data: bytes.baseAddress, len: bytes.count, flags: UInt32(CURL_BLOB_COPY))
            unsafe ccurl_set_pointer(handle, CURLOPT_CAINFO_BLOB, &blob)
        }
        // The certificate has the names that senders use, not the address that is used here.
        unsafe ccurl_set_long(handle, CURLOPT_SSL_VERIFYHOST, 0)
    }

    /// Posts a body and waits for the response.
    func post(_ url: String, headers: [(name: String, value: String)], body: RawSpan) throws(Failure) -> Answer {
        let list = unsafe try prepare(url, headers)
        defer { unsafe ccurl_slist_free_all(list) }
        unsafe ccurl_set_long(handle, CURLOPT_POSTFIELDSIZE, body.byteCount)
        let result = unsafe body.withUnsafeBytes { bytes in
            unsafe ccurl_set_pointer(handle, CURLOPT_POSTFIELDS, bytes.baseAddress ?? UnsafeRawPointer(handle))
            return unsafe ccurl_easy_perform(handle)
        }
        return try answer(result)
    }

    /// Asks for a page and waits for the response.
    func get(_ url: String, headers: [(name: String, value: String)]) throws(Failure) -> Answer {
        let list = unsafe try prepare(url, headers)
        defer { unsafe ccurl_slist_free_all(list) }
        unsafe ccurl_set_long(handle, CURLOPT_HTTPGET, 1)
        return try answer(unsafe ccurl_easy_perform(handle))
    }

    /// Sets what each request has; the headers that it returns are freed after the request.
    private func prepare(
        _ url: String, _ headers: [(name: String, value: String)]
    ) throws(Failure) -> UnsafeMutablePointer<curl_slist>? {
        (received, bounds) = ([], AnswerBounds())
        do throws(WrittenHead.Refusal) {
            try WrittenHead.check(target: url)
            for header in headers { try WrittenHead.check(header) }
        } catch { throw Failure(description: error.reason) }
        var list: UnsafeMutablePointer<curl_slist>?
        for header in [(name: "Expect", value: "")] + headers {
            unsafe list = unsafe ccurl_slist_append(list, header.value.isEmpty ? "\(header.name):" : "\(header.name): \(header.value)")
        }
        unsafe ccurl_set_text(handle, CURLOPT_URL, url)
        unsafe ccurl_set_pointer(handle, CURLOPT_HTTPHEADER, list)
        return unsafe list
    }

    private func answer(_ result: CURLcode) throws(Failure) -> Answer {
        let excess = bounds.excess
        guard result == CURLE_OK || excess != nil else {
            let words = unsafe ccurl_easy_strerror(result).map { unsafe String(cString: $0) }
            throw Failure(description: words ?? "libcurl error \(result.rawValue)")
        }
        // libcurl reports success even if the server closes the connection in the middle of a head.
        guard bounds.hasHead else { throw Failure(description: excess.map { "the answer has \($0)" } ?? Self.cutHead) }
        var status = 0
        unsafe ccurl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        var type: UnsafeMutableRawPointer?
        unsafe ccurl_get_pointer(handle, CURLINFO_CONTENT_TYPE, &type)
        let contentType = unsafe type.map { unsafe String(cString: $0.assumingMemoryBound(to: CChar.self)) } ?? ""
        return Answer(status: status, media: AnswerMedia(contentType: contentType, body: received), excess: excess)
    }

    private static let cutHead = "the answer ended in the middle of its head"
}
