import CCurl
import ConfigJSON
import LinuxSystem
import PushWire

/// An endpoint's `oauth2` block: the client credentials grant of RFC 6749 §4.4.
struct OAuth2Config: Sendable {
    var clientID = ""
    var clientSecret: ConfigSource?
    var tokenURL = ""
    var scopes: [String] = []
    /// Additional parameters of the token request.
    var parameters: [(name: String, value: String)] = []
    var connection = ConnectionOptions()

    init(_ object: ConfigObject) {
        clientID = object.string("client_id") ?? ""
        if clientID.isEmpty { object.refuse("client_id", "is required") }
        clientSecret = object.secret(file: "client_secret_file", text: "client_secret")
        if object.value("client_secret") == nil, object.value("client_secret_file") == nil {
            object.refuse("client_secret", "is required, or client_secret_file")
        }
        tokenURL = object.string("token_url") ?? ""
        if tokenURL.isEmpty {
            object.refuse("token_url", "is required")
        } else if case .failure(let objection) = UpstreamURL.parse(tokenURL) {
            object.refuse("token_url", objection.reason)
        } else if tokenURL.lowercased().hasPrefix("http://") {
            object.warn("token_url", "is http://, so the client's secret and the token travel in the clear")
        }
        scopes = object.strings("scopes") ?? []
        parameters = object.stringMembers("endpoint_params")
        connection = ConnectionOptions(object)
        if connection.serverName != nil { object.refuse("tls_config", "takes no server_name for the token server") }
        object.refuseUnknown()
    }
}

/// The token of one endpoint: one request serves all waiting transfers, and the token is kept until it expires; on the transfer
/// thread only.
final class TokenSource {
    /// A callback for the result: nil when there is a token, else the reason why there is none.
    typealias Waiter = (_ failure: String?) -> Void

    /// Large, because the tokens of some servers hold everything that is known of a client.
    private static let largestAnswer = 256 << 10
    /// How many bytes of the server's error code are kept.
    private static let longestError = 256
    /// How long before its expiry a token is no longer used, because requests take time too.
    private static let margin = Duration.seconds(10)

    private let config: OAuth2Config
    private let secrets: EndpointSecrets
    private let sockets: SocketWatcher
    private let files: TLSFiles
    private(set) var curl: CurlHandle?
    private var bodyBuffer = ByteBuffer()
    private var token: String?
    /// The last Authorization header that the endpoint accepted.
    private var proven: String?
    private var expiry = MonotonicTime.never
    private var waiting: [Waiter] = []
    /// Whether id and secret are sent in the body: some servers accept them only there (RFC 6749 §2.3.1).
    private var namesClientInBody = false
    private var isSecondTry = false

    private let timeoutMilliseconds: Int
    private let keepsAddresses: Bool
    /// Called once for each token request that failed.
    var failed: (_ reason: String) -> Void = { _ in }

    init(_ config: OAuth2Config, of endpoint: EndpointConfig, _ secrets: EndpointSecrets, sockets: SocketWatcher) {
        (self.config, self.secrets) = (config, secrets)
        timeoutMilliseconds = endpoint.timeoutMilliseconds
        keepsAddresses = endpoint.maximumConnectionAge > .zero
        self.sockets = sockets
        files = TLSFiles(config.connection)
    }

    /// The value of the Authorization header, while the token can be used.
    func current(_ now: MonotonicTime) -> String? { now < expiry ? header : nil }

    /// Changes the rejection of a revoked token to a retry: the server may revoke a token before it expires, and then a new one is
    /// fetched.
    func reconsidered(_ verdict: Verdict, _ authorization: String?) -> Verdict {
        switch verdict {
        case .delivered: proven = authorization
        case .rejected(let reason, 401, _) where refused(authorization): return .retry(reason, after: .zero, httpStatus: 401)
        case .retry(_, _, 401): _ = refused(authorization)
        default: break
        }
        return verdict
    }

    /// Drops a token that the endpoint rejected, even if it has not expired.
    ///
    /// - Returns: whether the endpoint accepted this token before, or has accepted the newer one meanwhile, so that a new token may be
    ///   all that is needed.
    private func refused(_ authorization: String?) -> Bool {
        if authorization == header { token = nil }
        return authorization == proven || header != nil && header == proven
    }

    private var header: String? { token.map { "Bearer \($0)" } }

    /// Whether a token request is running.
    var isAsked: Bool { !waiting.isEmpty }

    /// Registers a callback for the token.
    ///
    /// - Returns: a handle to add, when no token request is running yet.
    func wait(_ waiter: @escaping Waiter) throws(Problem) -> CurlHandle? {
        if !waiting.isEmpty {
            waiting.append(waiter)
            return nil
        }
        let handle = try request()
        waiting.append(waiter)
        return handle
    }

    /// Calls all waiting callbacks: nil means that there is a token, an empty text that the transfers were aborted.
    func finish(_ failure: String?) {
        let told = waiting
        (waiting, isSecondTry) = ([], false)
        if let failure, !failure.isEmpty { failed(failure) }
        for waiter in told { waiter(failure) }
    }

    private func makeHandle() -> CurlHandle? {
        CurlHandle(
            timeoutMilliseconds: timeoutMilliseconds, answerLimit: Self.largestAnswer, keepsAddresses: keepsAddresses, sockets: sockets)
    }

    private func request() throws(Problem) -> CurlHandle {
        guard let curl = curl ?? makeHandle(), let source = config.clientSecret else {
            throw Problem(position: nil, path: "oauth2", message: "no memory for a request")
        }
        self.curl = curl
        let secret = try source.secret()
        secrets.add(secret)
        try files.refresh()
        curl.setOptions(config.connection)
        curl.setFiles(files)
        curl.prepare()
        curl.setTimeout(timeoutMilliseconds)
        curl.setTarget(of: config.tokenURL)
        var fields = [("grant_type", "client_credentials")] + config.parameters
        if !config.scopes.isEmpty { fields.append(("scope", config.scopes.joined(separator: " "))) }
        var headers = [("Expect", ""), ("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if namesClientInBody {
            fields += [("client_id", config.clientID), ("client_secret", secret)]
        } else {
            let pair = "\(percentEncoded(config.clientID)):\(percentEncoded(secret))"
            headers.append(("Authorization", "Basic \(base64(Array(pair.utf8)))"))
            secrets.add(authorization: headers[headers.count - 1].1)
        }
        do throws(WrittenHead.Refusal) { try curl.setHeaders(headers) } catch {
            throw Problem(position: nil, path: "oauth2", message: error.reason)
        }
        let text = Array(fields.map { "\(percentEncoded($0.0))=\(percentEncoded($0.1))" }.joined(separator: "&").utf8)
        bodyBuffer = ByteBuffer()
        do throws(SystemError) { try unsafe bodyBuffer.append(text.span.bytes) } catch {
            throw Problem(position: nil, path: "oauth2", message: "\(error)")
        }
        unsafe curl.setBody(UnsafeRawBufferPointer(start: bodyBuffer.address, count: bodyBuffer.count))
        return curl
    }

    /// Takes the token server's response.
    ///
    /// - Returns: a handle to add for a second try, with id and secret sent in the other place.
    func take(_ result: CURLcode, _ now: MonotonicTime) -> CurlHandle? {
        guard let curl else { return nil }
        if result == CURLE_OK, [400, 401].contains(curl.status), !isSecondTry {
            (isSecondTry, namesClientInBody) = (true, !namesClientInBody)
            if let again = try? request() { return again }
        }
        finish(read(result, curl, now))
        return nil
    }

    /// - Returns: the reason why there is no token; nil when there is one.
    private func read(_ result: CURLcode, _ curl: CurlHandle, _ now: MonotonicTime) -> String? {
        if let excess = curl.bounds.excess { return "oauth2: the token server's answer has \(excess)" }
        guard curl.isWhole(result) else { return "oauth2: \(secrets.known.cut(from: curl.words(for: result)))" }
        guard curl.status == 200 else {
            let error = member("error", of: curl.answer).map { ": \(secrets.known.cut(from: $0).prefix(utf8: Self.longestError))" }
            return "oauth2: the token server answers HTTP \(curl.status)\(error ?? "")"
        }
        guard let text = member("access_token", of: curl.answer), !text.isEmpty, text.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            return "oauth2: the token server's answer holds no access_token"
        }
        token = text
        let seconds = member("expires_in", of: curl.answer).flatMap { Int64($0) } ?? 0
        expiry = seconds > 0 ? now + max(.zero, .seconds(seconds) - Self.margin) : .never
        // A token that has expired by now is still usable for the transfers that wait.
        if expiry <= now { expiry = now + .seconds(1) }
        return nil
    }

    /// A member of a response as text, also if it is a number: some servers quote `expires_in` and some do not.
    private func member(_ name: String, of body: [UInt8]) -> String? {
        guard case .object(let members) = JSONParser.parse(body, dialect: .strict, problems: Problems())?.content else { return nil }
        switch members.first(where: { $0.name == name })?.value.content {
        case .string(let text): return JSONValue.quoted(text).dropFirst().dropLast() == text ? text : nil
        case .number(let digits): return digits
        default: return nil
        }
    }
}
