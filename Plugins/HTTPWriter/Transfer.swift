import ConfigJSON
import LinuxSystem
import PluginKit
import PushWire

/// One request to one endpoint, with the redirects that it follows; the object and its lanes are reused for later requests. On the
/// transfer thread only.
///
/// During a request the lane points into the profile's bytes, which are not copied.
final class Transfer {
    let endpoint: Int
    /// The endpoint, which keeps the transfer while it is not under way; the engine's end breaks that cycle.
    let destination: Endpoint
    /// The dispatches whose profiles are being sent, usually one; none for a probe of `gateway check --connect`.
    private(set) var items = DispatchList()
    private(set) var request: UpstreamRequest?
    /// True when the endpoint's next batch waits for the end of this request.
    var holdsBatches = false
    /// Whether it is under way.
    var isActive = false
    /// Whether its endpoint keeps it for another request, and the next one of those.
    var isKept = false
    var nextIdle: Transfer?
    /// True when this request tests whether an endpoint that was down works again.
    private(set) var isProbe = false
    private(set) var authorization: String?
    /// Called when a request to the endpoint, or to a redirect's target, has ended.
    var ended: () -> Void = {} {
        didSet { for lane in [first, libcurl].compactMap(\.self) { lane.ended = ended } }
    }
    private let config: EndpointConfig
    private let files: TLSFiles
    private let sockets: SocketWatcher
    /// The lane of requests to the endpoint itself.
    private let first: any Lane
    /// The lane of redirects, made for the first of them.
    private var libcurl: (any Lane)?
    /// The lane of the request under way.
    private var lane: any Lane
    private var hops = 0
    /// Whether the last URL of the request was https.
    private var isSecure = false
    private var deadline = MonotonicTime.never

    /// - Returns: nil when libcurl has no memory for a handle.
    init?(_ endpoint: Endpoint, _ index: Int, sockets: SocketWatcher) {
        (self.endpoint, destination, self.sockets) = (index, endpoint, sockets)
        (config, files) = (endpoint.config, endpoint.files)
        if let route = endpoint.route {
            first = PlainExchange(route)
        } else {
            guard let lane = CurlLane(endpoint.config, endpoint.files, sockets: sockets) else { return nil }
            (first, libcurl) = (lane, lane)
        }
        lane = first
    }

    /// Why a request is not sent.
    enum Obstacle: Error {
        /// Transient.
        case problem(Problem)
        /// Permanent for the profile.
        case refusal(WrittenHead.Refusal)
    }

    /// Prepares a request; the profiles must stay valid until ``release()``.
    func begin(
        _ items: DispatchList, _ request: UpstreamRequest, to endpoint: Endpoint, isProbe: Bool, _ now: MonotonicTime
    ) throws(Obstacle) {
        self.isProbe = isProbe
        do throws(Problem) {
            authorization = try endpoint.authorization(now)
            if let authorization { endpoint.secrets.add(authorization: authorization) }
            try files.refresh()
        } catch { throw .problem(error) }
        (self.items, self.request, hops, lane) = (items, request, 0, first)
        (isSecure, deadline) = (endpoint.isSecure, now + config.remoteTimeout)
        do throws(WrittenHead.Refusal) {
            try lane.prepare(wire(request))
        } catch { throw .refusal(error) }
    }

    /// Starts what was prepared; false when there is no memory for it.
    func start(on connections: EndpointConnections, _ now: MonotonicTime) -> Bool { lane.start(on: connections, now) }

    /// Ends the request without telling.
    func cancel() { lane.cancel() }

    private func wire(_ request: UpstreamRequest, elsewhere: String? = nil, isTrusted: Bool = true) -> LaneRequest {
        // Any configured header may hold a secret, so they count as credentials.
        let isOverridden = isTrusted && !config.headers.isEmpty
        let added = added(to: request, isTrusted: isTrusted)
        return unsafe LaneRequest(
            request: request, elsewhere: elsewhere, headers: isOverridden ? withoutConfigured(request.headers) : nil,
            added: isOverridden ? withoutConfigured(added) : added, body: request.body(of: items.first?.profile, for: config),
            deadline: deadline, isTrusted: isTrusted)
    }

    /// The headers that this endpoint needs beside the request's own.
    private func added(to request: UpstreamRequest, isTrusted: Bool) -> [UpstreamRequest.Header] {
        var added = request.headers(for: config)
        if request.message != nil { added.append(("Connect-Timeout-Ms", "\(config.timeoutMilliseconds)")) }
        guard isTrusted else { return added }
        if let authorization { added.append(("Authorization", authorization)) }
        if config.connection.serverName != nil, let place = UpstreamURL.place(of: config.url) {
            added.append(("Host", "\(place.host):\(place.port)"))
        }
        return added
    }

    /// Headers without those of the config, which win over them.
    private func withoutConfigured(_ headers: [UpstreamRequest.Header]) -> [UpstreamRequest.Header] {
        headers.filter { header in !config.headers.contains { $0.name.lowercased() == header.name.lowercased() } }
    }

    // MARK: Repeats and redirects

    func makeResult() -> LaneResult { lane.makeResult() }

    /// Prepares to go on after a request has ended: with a redirect, or with the same request again. It must then be started.
    func goesOn(_ result: borrowing LaneResult, hasRoom: Bool) -> Bool { followsRedirect(result) || lane.repeats(hasRoom: hasRoom) }

    private static let maximumHops = 10

    /// Prepares to follow the response's redirect, if that is allowed.
    ///
    /// The method and the body are kept. A redirect is followed only on the same host, and never from https to http. Credentials,
    /// configured headers and the client certificate are sent only to the configured scheme, host and port. All redirects together
    /// share the time of one attempt. They are libcurl's, whichever lane the first request took.
    private func followsRedirect(_ result: borrowing LaneResult) -> Bool {
        guard let request, hops < Self.maximumHops, let (from, to, url) = redirect(result), to.host == from.host,
            to.scheme == "https" || !isSecure, let next = libcurl ?? CurlLane(config, files, sockets: sockets)
        else { return false }
        if libcurl == nil { next.ended = ended }
        libcurl = next
        guard (try? next.prepare(wire(request, elsewhere: url, isTrusted: to == from))) != nil else { return false }
        hops += 1
        (isSecure, lane) = (to.scheme == "https", next)
        return true
    }

    /// The target of a redirect that may be followed; none with `server_name`, because then a URL does not give the address of the
    /// host.
    private func redirect(_ result: borrowing LaneResult) -> (from: UpstreamURL.Place, to: UpstreamURL.Place, url: String)? {
        guard result.isWhole, config.followsRedirects, config.connection.serverName == nil,
            [301, 302, 307, 308].contains(result.status), let url = result.redirect,
            let from = UpstreamURL.place(of: config.url), let to = UpstreamURL.place(of: url)
        else { return nil }
        return (from, to, url)
    }

    /// The other host that a response redirects to; nil when there is no redirect, or it stays on the same host.
    private func otherHost(_ result: borrowing LaneResult) -> String? {
        redirect(result).flatMap { $0.to.host == $0.from.host ? nil : UpstreamURL.host(of: $0.url) }
    }

    // MARK: End

    /// The cost of the last request, for the metrics.
    var cost: LaneCost { lane.cost }

    /// The generation of connections that the request used.
    var generation: ConnectionGeneration? { lane.generation }

    /// Judges the result of the request.
    func judge(_ result: consuming LaneResult, _ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        let otherHost = otherHost(result)
        let isConnect = request?.message != nil
        // The profile waits until libcurl is there.
        if result.redirect != nil, config.followsRedirects, !Libcurl.isUsable {
            return .misanswered("HTTP \(result.status): a redirect, which \(Libcurl.missing)", httpStatus: result.status)
        }
        // A response that exceeded the bounds still has a valid status.
        guard result.isWhole || result.excess != nil && result.status >= 200 else {
            let reason = result.excess.map { "the answer has \($0)" } ?? secrets().cut(from: result.failure)
            return .retry(reason, after: .zero, httpStatus: 0)
        }
        return UpstreamAnswer(
            status: result.status, body: result.body, isCutShort: result.body.count == UpstreamAnswer.bodyLimit, excess: result.excess,
            contentType: result.contentType, isRedirected: hops > 0, otherHost: otherHost, retryAfter: result.retryAfter,
            isConnect: isConnect, retriesOn429: config.retriesOn429, retriesOn422: config.retriesOn422, retriesOn: config.retriesOn
        ).verdict(secrets())
    }

    /// Lets go of the profiles.
    func release() { (items, request) = (DispatchList(), nil) }
}
