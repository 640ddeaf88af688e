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
    /// Further parameters of the request.
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

/// The token of one endpoint: asked for once for all who wait, and kept until it expires; on the transfer thread only.
final class TokenSource {
    /// Who waits for a token: told that there is one, or why there is none.
    typealias Waiter = (_ failure: String?) -> Void

    /// Tokens of some servers hold all that is known of a client.
    private static let largestAnswer = 256 << 10
    /// How much of the word is kept with which it refuses, in bytes.
    private static let longestError = 256
    /// So long before its end a token is not used any more, for requests take a while too.
    private static let margin = Duration.seconds(10)

    private let config: OAuth2Config
    private let secrets: EndpointSecrets
    private let sockets: SocketWatcher
    private let files: TLSFiles
    private(set) var curl: CurlHandle?
    private var bodyBuffer = ByteBuffer()
    private var token: String?
    /// The header that the endpoint took last.
    private var proven: String?
    private var expiry = MonotonicTime.never
    private var waiting: [Waiter] = []
    /// Some servers take id and secret in the body only (RFC 6749 §2.3.1).
    private var namesClientInBody = false
    private var isSecondTry = false

    private let timeoutMilliseconds: Int
    private let keepsAddresses: Bool
    /// Called once for each request that has brought no token.
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

    /// The endpoint has taken a token.
    func proved(_ authorization: String?) { proven = authorization }

    /// The endpoint does not take a token, whatever its time.
    ///
    /// - Returns: whether it took it before, so that another token may be all that is needed.
    func refused(_ authorization: String?) -> Bool {
        if authorization == header { token = nil }
        return authorization == proven
    }

    private var header: String? { token.map { "Bearer \($0)" } }

    /// Whether a token is on its way.
    var isAsked: Bool { !waiting.isEmpty }

    /// Waits for a token.
    ///
    /// - Returns: a handle to add when nobody waits yet.
    func wait(_ waiter: @escaping Waiter) throws(Problem) -> CurlHandle? {
        if !waiting.isEmpty {
            waiting.append(waiter)
            return nil
        }
        let handle = try request()
        waiting.append(waiter)
        return handle
    }

    /// Tells everybody who waits: nil that there is a token, an empty text that nobody asks any more.
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

    /// Takes the token server's answer.
    ///
    /// - Returns: a handle to add for a second try, with id and secret where this server wants them.
    func take(_ result: CURLcode, _ now: MonotonicTime) -> CurlHandle? {
        guard let curl else { return nil }
        if result == CURLE_OK, [400, 401].contains(curl.status), !isSecondTry {
            (isSecondTry, namesClientInBody) = (true, !namesClientInBody)
            if let again = try? request() { return again }
        }
        finish(read(result, curl, now))
        return nil
    }

    /// - Returns: why there is no token; nil when there is.
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
        // One that is over by then is still good for those who wait.
        if expiry <= now { expiry = now + .seconds(1) }
        return nil
    }

    /// A member of an answer, as text; numbers too, for some servers quote them and some do not.
    private func member(_ name: String, of body: [UInt8]) -> String? {
        guard case .object(let members) = JSONParser.parse(body, dialect: .strict, problems: Problems())?.content else { return nil }
        switch members.first(where: { $0.name == name })?.value.content {
        case .string(let text): return JSONValue.quoted(text).dropFirst().dropLast() == text ? text : nil
        case .number(let digits): return digits
        default: return nil
        }
    }
}
