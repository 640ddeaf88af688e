import CCurl
import ConfigJSON
import LinuxSystem
import PushWire

/// Translates the config into libcurl options.
extension CurlHandle {
    /// Sets the options that are the same for all requests.
    func setOptions(_ options: ConnectionOptions) {
        unsafe ccurl_set_long(easy, CURLOPT_HTTP_VERSION, options.usesHTTP2 ? Int(CURL_HTTP_VERSION_2TLS) : Int(CURL_HTTP_VERSION_1_1))
        unsafe ccurl_set_long(easy, CURLOPT_SSL_VERIFYPEER, options.skipsVerification ? 0 : 1)
        unsafe ccurl_set_long(easy, CURLOPT_SSL_VERIFYHOST, options.skipsVerification ? 0 : 2)
        unsafe ccurl_set_long(easy, CURLOPT_SSLVERSION, options.minimumVersion.curlVersion)
        unsafe ccurl_set_text(easy, CURLOPT_UNIX_SOCKET_PATH, options.unixSocket)
        if let source = options.sourceAddress {
            unsafe ccurl_set_text(easy, CURLOPT_INTERFACE, "host!\(options.sourceText)")
            // An address of the other family cannot be reached from it.
            unsafe ccurl_set_long(easy, CURLOPT_IPRESOLVE, source.isIPv6 ? Int(CURL_IPRESOLVE_V6) : Int(CURL_IPRESOLVE_V4))
        }
        switch options.proxy {
        // An empty text, because without one libcurl would use the environment's proxy variables.
        case .none: unsafe ccurl_set_text(easy, CURLOPT_PROXY, "")
        case .url(let url):
            unsafe ccurl_set_text(easy, CURLOPT_PROXY, url)
            unsafe ccurl_set_text(easy, CURLOPT_NOPROXY, options.noProxy ?? "")
        case .environment: break
        }
    }

    /// Sets the URL of a request to the endpoint itself.
    func setTarget(_ target: String, of config: EndpointConfig) throws(WrittenHead.Refusal) {
        try WrittenHead.check(target: target)
        // A request to a proxy contains the whole URL, so libcurl must be given it.
        if config.connection.proxy != .none, config.url.lowercased().hasPrefix("http:") {
            var base = config.url
            while base.hasSuffix("/") { base.removeLast() }
            unsafe ccurl_set_text(easy, CURLOPT_URL, base + target)
            unsafe ccurl_set_long(easy, CURLOPT_PATH_AS_IS, 1)
        } else {
            // These headers are for CONNECT tunnels only: a proxy would pass them on to the endpoint in a plain request.
            if !config.connection.proxyHeaders.isEmpty { try setProxyHeaders(config.connection.proxyHeaders) }
            unsafe ccurl_set_text(easy, CURLOPT_URL, config.url)
            unsafe ccurl_set_text(easy, CURLOPT_REQUEST_TARGET, config.path + target)
        }
        setServerName(config)
        setPlace("")
    }

    /// Sets any other URL.
    func setTarget(of url: String) {
        unsafe ccurl_set_text(easy, CURLOPT_URL, url)
        unsafe ccurl_set_text(easy, CURLOPT_REQUEST_TARGET, nil)
        setDetour(nil)
        setPlace(UpstreamURL.place(of: url)?.host ?? url)
    }

    /// Has the certificate checked for another name: that name becomes the URL's host, and libcurl is told to connect to the real
    /// host.
    private func setServerName(_ config: EndpointConfig) {
        guard let name = config.connection.serverName, let place = UpstreamURL.place(of: config.url), place.scheme == "https" else {
            return
        }
        unsafe ccurl_set_text(easy, CURLOPT_URL, "\(place.scheme)://\(name):\(place.port)/")
        setDetour("\(name):\(place.port):\(place.host):\(place.port)")
    }

    /// Removes the client's certificate and key until ``setFiles(_:)``.
    func forgetCertificate() {
        for option in [CURLOPT_SSLCERT_BLOB, CURLOPT_SSLKEY_BLOB] { unsafe ccurl_set_pointer(easy, option, nil) }
        filesGeneration = 0
    }

    /// Sets certificates and key; libcurl does not reuse connections made with others.
    func setFiles(_ files: TLSFiles) {
        guard files.generation != filesGeneration else { return }
        filesGeneration = files.generation
        set(CURLOPT_CAINFO_BLOB, files.texts[0])
        // With configured authorities, the system's are not trusted.
        if files.texts[0] != nil { unsafe ccurl_set_text(easy, CURLOPT_CAPATH, nil) }
        set(CURLOPT_SSLCERT_BLOB, files.texts[1])
        set(CURLOPT_SSLKEY_BLOB, files.texts[2])
    }

    private func set(_ option: CURLoption, _ text: [UInt8]?) {
        guard var text else { return }
        unsafe text.withUnsafeMutableBytes { bytes in
            var blob = unsafe curl_blob(data: bytes.baseAddress, len: bytes.count, flags: UInt32(CURL_BLOB_COPY))
            unsafe ccurl_set_pointer(easy, option, &blob)
        }
    }
}

extension ConnectionOptions.Version {
    fileprivate var curlVersion: Int {
        switch self {
        case .tls10: Int(CURL_SSLVERSION_TLSv1_0)
        case .tls11: Int(CURL_SSLVERSION_TLSv1_1)
        case .tls12: Int(CURL_SSLVERSION_TLSv1_2)
        case .tls13: Int(CURL_SSLVERSION_TLSv1_3)
        }
    }
}

/// The certificates and the key of an endpoint, read again when their files change; on the thread of the transfers only.
final class TLSFiles {
    private let sources: [ConfigSource?]
    private let hasSources: Bool
    private var stamps: [FileStamp?] = []
    /// Authorities, certificate and key; nil where none is configured.
    private(set) var texts: [[UInt8]?] = [nil, nil, nil]
    /// How often the files were read.
    private(set) var generation = 0

    init(_ options: ConnectionOptions) {
        sources = [options.authorities, options.certificate, options.key]
        hasSources = sources.contains { $0 != nil }
    }

    func refresh() throws(Problem) {
        guard hasSources else { return }
        let now = sources.map { $0?.stamp }
        guard now != stamps else { return }
        var read: [[UInt8]?] = []
        for source in sources { read.append(try source?.read()) }
        (texts, stamps, generation) = (read, now, generation + 1)
    }
}
