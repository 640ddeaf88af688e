import COpenSSL
import ConfigJSON
import LinuxSystem
import PEM

/// How to connect to an endpoint: `tls_config`, the proxy members, and `enable_http2`.
struct ConnectionOptions: Sendable {
    var authorities: ConfigSource?
    var certificate: ConfigSource?
    var key: ConfigSource?
    /// The name expected in the server's certificate, when it is not the URL's host.
    var serverName: String?
    var skipsVerification = false
    var minimumVersion = Version.tls12
    var usesHTTP2 = true
    var proxy = Proxy.none
    /// Hosts to reach without the proxy, separated by commas.
    var noProxy: String?
    var proxyHeaders: [(name: String, value: String)] = []
    /// The path of a Unix socket to connect to instead of the URL's host.
    var unixSocket: String?
    /// The address of this machine that connections come from; nil is what the system chooses.
    var sourceAddress: SocketAddress?
    /// ``sourceAddress`` as the config has it.
    var sourceText = ""

    enum Version: String, CaseIterable, Sendable {
        case tls10 = "TLS10"
        case tls11 = "TLS11"
        case tls12 = "TLS12"
        case tls13 = "TLS13"
    }

    enum Proxy: Equatable, Sendable {
        case none
        case url(String)
        /// The proxy that the environment variables name.
        case environment
    }
}

extension ConnectionOptions {
    /// Reads the members of an endpoint.
    init(_ endpoint: ConfigObject) {
        if let tls = endpoint.object("tls_config") { read(tls) }
        usesHTTP2 = endpoint.bool("enable_http2", default: usesHTTP2)
        noProxy = endpoint.string("no_proxy")
        proxyHeaders = endpoint.checkedHeaders("proxy_connect_header")
        let isFromEnvironment = endpoint.bool("proxy_from_environment", default: false)
        if let url = endpoint.string("proxy_url") {
            proxy = .url(url)
            if !["http://", "https://", "socks5://"].contains(where: url.hasPrefix) {
                endpoint.refuse("proxy_url", "must begin with http://, https:// or socks5://")
            } else if let objection = UpstreamURL.objection(toProxy: url) {
                // The message leaves the URL out, because it may hold a password.
                endpoint.refuse("proxy_url", objection)
            }
            if isFromEnvironment { endpoint.refuse("proxy_from_environment", "is given beside proxy_url; one of them is meant") }
        } else if isFromEnvironment {
            proxy = .environment
        }
        if noProxy != nil, proxy == .none { endpoint.refuse("no_proxy", "means nothing without proxy_url") }
        if noProxy != nil, proxy == .environment { endpoint.refuse("no_proxy", "is the environment's with proxy_from_environment") }
        readSource(endpoint)
        if !proxyHeaders.isEmpty, proxy == .none { endpoint.refuse("proxy_connect_header", "means nothing without a proxy") }
    }

    /// Reads through what, and from where, connections are made.
    private mutating func readSource(_ endpoint: ConfigObject) {
        if let path = endpoint.string("unix_socket") {
            unixSocket = path.absolutePath
            if SocketAddress(path: path.absolutePath) == nil {
                endpoint.refuse("unix_socket", "must be a path of 1 to \(SocketAddress.longestPath) bytes, is \(JSONValue.quoted(path))")
            }
            if proxy != .none { endpoint.refuse("unix_socket", "leaves nothing to do for a proxy") }
        }
        guard let text = endpoint.string("source_address") else { return }
        (sourceAddress, sourceText) = (SocketAddress(literal: text, port: 0), text)
        if sourceAddress == nil { endpoint.refuse("source_address", "must be an IP address of this machine, is \(JSONValue.quoted(text))") }
        if unixSocket != nil { endpoint.refuse("source_address", "means nothing for a Unix socket") }
    }

    private mutating func read(_ tls: ConfigObject) {
        authorities = tls.source(file: "ca_file", text: "ca_pem")
        certificate = tls.source(file: "cert_file", text: "cert_pem")
        key = tls.source(file: "key_file", text: "key_pem")
        tls.warnOfMode(key)
        serverName = tls.string("server_name").flatMap { $0.isEmpty ? nil : $0 }
        if let serverName, !serverName.utf8.allSatisfy({ (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "-._".utf8.contains($0) }) {
            tls.refuse("server_name", "\(JSONValue.quoted(serverName)) is no host name")
        }
        skipsVerification = tls.bool("insecure_skip_verify", default: skipsVerification)
        minimumVersion = tls.choice("min_version", default: minimumVersion)
        if certificate != nil, key == nil { tls.refuse("cert_file", "needs key_file or key_pem") }
        if key != nil, certificate == nil { tls.refuse("key_file", "needs cert_file or cert_pem") }
        tls.refuseUnknown()
        do throws(Problem) { try check() } catch { tls.problems.add(error.path, error.message, at: error.position) }
    }

    /// Checks the contents of the files; libcurl would read them only with the first connection.
    private func check() throws(Problem) {
        if let authorities { unsafe try PEM.certificates(authorities) { (_) throws(Problem) in } }
        guard let certificate, let key else { return }
        var isFirst = true
        unsafe try PEM.certificates(certificate) { (own) throws(Problem) in
            guard isFirst else { return }
            isFirst = false
            unsafe try PEM.checkTime(own, certificate)
            unsafe try PEM.privateKey(key) { (pair) throws(Problem) in
                guard unsafe X509_check_private_key(own, pair) == 1 else { throw key.problem("is not the key of the certificate") }
            }
        }
    }
}
