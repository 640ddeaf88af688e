import CCurl
import ConfigJSON
import LinuxSystem
import PluginKit
import PushWire

/// One request of one endpoint, and after it another one on the same handle; on the transfer thread only.
///
/// While a request is under way, the handle points into this object and into the profile's bytes, which nothing copies.
final class Transfer {
    let curl: CurlHandle
    let endpoint: Int
    /// Those whose profiles are under way, mostly one.
    private(set) var items: [DispatchProgress] = []
    private(set) var request: UpstreamRequest?
    /// True when this request finds out whether a destination that was down answers again.
    private(set) var isProbe = false
    private let config: EndpointConfig
    private(set) var authorization: String?
    private var hops = 0
    private var isRepeated = false
    /// Where the request went last.
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

    /// Points the handle at a request; the profiles must stay until ``end()``.
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
        // What a config adds may be a secret as well as not.
        let configured = withCredentials ? config.headers : []
        let kept = own.filter { header in !configured.contains { $0.name.lowercased() == header.0.lowercased() } }
        try curl.setHeaders(kept + configured)
    }

    // MARK: Another try

    /// Turns to a new connection when the one that was there had ended, which a server may do at any time between requests; the
    /// handle has to be added again then.
    ///
    /// Only where the server cannot have begun with the request: it could not be sent, or libcurl itself has tried again, as it
    /// does with those that HTTP/2 gives back (RFC 9113 §8.7), and found the same dying connection each time.
    ///
    /// - Parameter hasRoom: true when a connection could not be opened for lack of descriptors, and can now.
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

    /// Turns to where the answer sends the request, when it may go there; the handle has to be added again then.
    ///
    /// The method stays and the body with it, on the same host only and never from https to http. Credentials, the config's headers and
    /// the client's certificate are for the config's own scheme, host and port. All hops together have the time of one attempt.
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

    /// Where an answer sends the request that may be sent on; with `server_name`, a URL does not say where its host is.
    private func redirect(_ result: CURLcode) -> (from: UpstreamURL.Place, to: UpstreamURL.Place, url: String)? {
        guard curl.isWhole(result), config.followsRedirects, config.connection.serverName == nil,
            [301, 302, 307, 308].contains(curl.status), let url = curl.text(CURLINFO_REDIRECT_URL),
            let from = UpstreamURL.place(of: config.url), let to = UpstreamURL.place(of: url)
        else { return nil }
        return (from, to, url)
    }

    /// The other host that an answer sends the request to; nil when it stays, or goes nowhere.
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
        // REQUEST_SIZE has bodies in it that libcurl sent in one piece with their heads.
        let wireBytes = max(curl.number(CURLINFO_REQUEST_SIZE), curl.offset(CURLINFO_SIZE_UPLOAD_T))
        return Cost(
            nanoseconds: Int64(curl.offset(CURLINFO_TOTAL_TIME_T)) * 1000, openedConnections: curl.number(CURLINFO_NUM_CONNECTS),
            wireBytes: wireBytes)
    }

    /// Reads what came of the request and lets go of it.
    func end(_ result: CURLcode, _ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        let otherHost = otherHost(result)
        let isConnect = request?.message != nil
        (items, request) = ([], nil)
        let excess = curl.bounds.excess
        // An answer that was cut has come all the same, with the status that it has.
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
