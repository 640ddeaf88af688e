import CCurl
import ConfigJSON
import LinuxSystem
import PluginKit
import PushWire

/// One request to one endpoint; the object and its handle are reused for later requests. On the transfer thread only.
///
/// During a request the handle points into this object and into the profile's bytes, which are not copied.
final class Transfer {
    let curl: CurlHandle
    let endpoint: Int
    /// The dispatches whose profiles are being sent, usually one.
    private(set) var items: [DispatchProgress] = []
    private(set) var request: UpstreamRequest?
    /// True when this request tests whether an endpoint that was down works again.
    private(set) var isProbe = false
    private let config: EndpointConfig
    private(set) var authorization: String?
    private var hops = 0
    private var isRepeated = false
    /// Whether the last URL of the request was https.
    private var isSecure = false
    private var deadline = MonotonicTime.never

    /// - Returns: nil when libcurl has no memory for a handle.
    init?(_ config: EndpointConfig, endpoint: Int, sockets: SocketWatcher) {
        guard
            let curl = CurlHandle(
                timeoutMilliseconds: config.timeoutMilliseconds, answerLimit: UpstreamAnswer.bodyLimit,
                keepsAddresses: config.maximumConnectionAge > .zero, sockets: sockets)
        else { return nil }
        (self.curl, self.endpoint, self.config) = (curl, endpoint, config)
        curl.setOptions(config.connection)
    }

    /// Why a request is not sent.
    enum Obstacle: Error {
        /// Transient.
        case problem(Problem)
        /// Permanent for the profile.
        case refusal(WrittenHead.Refusal)
    }

    /// Prepares the handle for a request; the profiles must stay valid until ``end(_:_:)``.
    func begin(_ items: [DispatchProgress], _ request: UpstreamRequest, to endpoint: Endpoint, isProbe: Bool) throws(Obstacle) {
        self.isProbe = isProbe
        do throws(Problem) {
            authorization = try endpoint.authorization()
            if let authorization { endpoint.secrets.add(authorization: authorization) }
            try endpoint.files.refresh()
        } catch { throw .problem(error) }
        curl.setFiles(endpoint.files)
        (self.items, self.request, hops) = (items, request, 0)
        (isSecure, deadline) = (config.url.lowercased().hasPrefix("https:"), .now + config.remoteTimeout)
        curl.prepare()
        curl.setTimeout(config.timeoutMilliseconds)
        if isRepeated { curl.setFresh(false) }
        isRepeated = false
        do throws(WrittenHead.Refusal) {
            try curl.setTarget(request.target, of: config)
            try setHeaders(request, withCredentials: true)
        } catch { throw .refusal(error) }
        unsafe curl.setBody(request.body(of: items[0].dispatch.profile, for: config))
    }

    private func setHeaders(_ request: UpstreamRequest, withCredentials: Bool) throws(WrittenHead.Refusal) {
        var own = [("Expect", "")] + request.headers(of: config)
        if request.message != nil { own.append(("Connect-Timeout-Ms", "\(config.timeoutMilliseconds)")) }
        if let authorization, withCredentials { own.append(("Authorization", authorization)) }
        if config.connection.serverName != nil, withCredentials, let place = UpstreamURL.place(of: config.url) {
            own.append(("Host", "\(place.host):\(place.port)"))
        }
        // Any configured header may hold a secret, so they count as credentials.
        let configured = withCredentials ? config.headers : []
        let kept = own.filter { header in !configured.contains { $0.name.lowercased() == header.0.lowercased() } }
        try curl.setHeaders(kept + configured)
    }

    // MARK: Repeats

    /// Prepares to repeat the request on a new connection when the reused one was closed, which a server may do between requests.
    /// The handle must then be added again.
    ///
    /// This is done only when the server cannot have processed the request: it could not be sent, or libcurl has already retried
    /// it, as it does with requests that HTTP/2 returns (RFC 9113 §8.7), and found the same dying connection each time.
    ///
    /// - Parameter hasRoom: true when a connection could not be opened for lack of descriptors, and some have since been freed.
    func repeats(_ result: CURLcode, hasRoom: Bool) -> Bool {
        if hasRoom {
            curl.prepare()
            curl.goOnWithTimeout()
            return true
        }
        let isUnbegun = result == CURLE_SEND_ERROR || result != CURLE_OK && curl.words(for: result).hasPrefix("Connection died")
        guard isUnbegun, !isRepeated, curl.number(CURLINFO_NUM_CONNECTS) == 0, curl.status == 0 else { return false }
        isRepeated = true
        curl.prepare()
        curl.setFresh(true)
        return true
    }

    // MARK: Redirects

    private static let maximumHops = 10

    /// Prepares to follow the response's redirect, if that is allowed; the handle must then be added again.
    ///
    /// The method and the body are kept. A redirect is followed only on the same host, and never from https to http. Credentials,
    /// configured headers and the client certificate are sent only to the configured scheme, host and port. All redirects together
    /// share the time of one attempt.
    func followsRedirect(_ result: CURLcode) -> Bool {
        guard let request, hops < Self.maximumHops, let (from, to, url) = redirect(result), to.host == from.host,
            to.scheme == "https" || !isSecure, (try? setHeaders(request, withCredentials: to == from)) != nil
        else { return false }
        hops += 1
        isSecure = to.scheme == "https"
        curl.prepare()
        curl.setTimeout(max(1, Int(deadline.since(.now).inNanoseconds / 1_000_000)))
        curl.setTarget(of: url)
        if to != from { curl.forgetCertificate() }
        return true
    }

    /// The target of a redirect that may be followed; none with `server_name`, because then a URL does not give the address of the
    /// host.
    private func redirect(_ result: CURLcode) -> (from: UpstreamURL.Place, to: UpstreamURL.Place, url: String)? {
        guard curl.isWhole(result), config.followsRedirects, config.connection.serverName == nil,
            [301, 302, 307, 308].contains(curl.status), let url = curl.text(CURLINFO_REDIRECT_URL),
            let from = UpstreamURL.place(of: config.url), let to = UpstreamURL.place(of: url)
        else { return nil }
        return (from, to, url)
    }

    /// The other host that a response redirects to; nil when there is no redirect, or it stays on the same host.
    private func otherHost(_ result: CURLcode) -> String? {
        redirect(result).flatMap { $0.to.host == $0.from.host ? nil : UpstreamURL.host(of: $0.url) }
    }

    // MARK: End

    /// What the request cost, for the metrics.
    struct Cost {
        var nanoseconds: Int64 = 0
        var openedConnections = 0
        var wireBytes = 0
    }

    var cost: Cost {
        guard curl.isStarted else { return Cost() }
        // REQUEST_SIZE includes the body when libcurl sent it in one piece with the head.
        let wireBytes = max(curl.number(CURLINFO_REQUEST_SIZE), curl.offset(CURLINFO_SIZE_UPLOAD_T))
        return Cost(
            nanoseconds: Int64(curl.offset(CURLINFO_TOTAL_TIME_T)) * 1000, openedConnections: curl.number(CURLINFO_NUM_CONNECTS),
            wireBytes: wireBytes)
    }

    /// Reads the result of the request and releases the request.
    func end(_ result: CURLcode, _ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        let otherHost = otherHost(result)
        let isConnect = request?.message != nil
        (items, request) = ([], nil)
        let excess = curl.bounds.excess
        // A response that exceeded the bounds still has a valid status.
        guard curl.isWhole(result) || excess != nil && curl.status >= 200 else {
            let reason = excess.map { "the answer has \($0)" } ?? secrets().cut(from: curl.words(for: result))
            return .retry(reason, after: .zero, httpStatus: 0)
        }
        return UpstreamAnswer(
            status: curl.status, body: curl.answer, isCutShort: curl.answer.count == curl.answerLimit, excess: excess,
            contentType: curl.text(CURLINFO_CONTENT_TYPE) ?? "", isRedirected: hops > 0, otherHost: otherHost,
            retryAfter: .seconds(max(0, curl.offset(CURLINFO_RETRY_AFTER))), isConnect: isConnect,
            retriesOn429: config.retriesOn429,
            retriesOn422: config.retriesOn422, retriesOn: config.retriesOn
        ).verdict(secrets())
    }
}
