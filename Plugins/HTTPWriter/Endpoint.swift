import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit

/// The state of one destination: its availability, credentials, connections and metrics; on the thread of the transfers only.
final class Endpoint {
    let config: EndpointConfig
    private let metrics: EndpointMetrics
    private let credentials: Credentials
    /// The source of OAuth 2.0 tokens, for an endpoint that uses them.
    let tokens: TokenSource?
    let files: TLSFiles
    /// The way to it for the writer's own client; nil when only libcurl may go there.
    let route: PlainRoute?
    let connections: EndpointConnections
    /// Whether its URL is https.
    let isSecure: Bool
    let secrets: EndpointSecrets
    private(set) var lastFailure = ""
    /// The first of the transfers to it that are not under way.
    private var idle: Transfer?
    private let availability = Availability()
    private let health: InstanceHealth
    /// Its place in the config.
    private let index: Int

    init(
        _ config: EndpointConfig, _ index: Int, _ health: InstanceHealth, host: GatewayHost, sockets: SocketWatcher, limit: ConnectionLimit
    ) {
        (self.config, self.index, self.health) = (config, index, health)
        metrics = EndpointMetrics(host, endpoint: config.name)
        let secrets = EndpointSecrets(config)
        self.secrets = secrets
        credentials = Credentials(config.authentication, secrets)
        tokens =
            if case .oauth2(let oauth2) = config.authentication {
                TokenSource(oauth2, of: config, secrets, sockets: sockets)
            } else { nil }
        files = TLSFiles(config.connection)
        let route = PlainRoute(config, sockets)
        self.route = route
        connections = EndpointConnections(sockets, route, maximumAge: config.maximumConnectionAge, limit: limit)
        isSecure = config.url.lowercased().hasPrefix("https:")
    }

    /// A transfer that is not under way; nil when there is none.
    func takeIdle() -> Transfer? {
        guard let transfer = idle else { return nil }
        (idle, transfer.nextIdle, transfer.isKept) = (transfer.nextIdle, nil, false)
        return transfer
    }

    /// Takes a transfer back that has ended.
    func keep(_ transfer: Transfer) {
        precondition(!transfer.isKept, "a transfer ended twice")
        (transfer.nextIdle, idle, transfer.isKept) = (idle, transfer, true)
    }

    /// The value of the Authorization header; nil when there is none to send.
    ///
    /// - Parameter now: the time for which the token was asked for, so that one that ends meanwhile is sent and not missed.
    func authorization(_ now: MonotonicTime) throws(Problem) -> String? {
        if let tokens {
            guard let token = tokens.current(now) else { throw Problem(position: nil, path: "oauth2", message: "the token is over") }
            return token
        }
        return try credentials.current()
    }

    var isDown: Bool { availability.isDown }
    /// Whether an attempt is under way that is the probe of the endpoint.
    var isProbing: Bool { availability.isProbing }
    var seemsAway: Bool { availability.seemsAway }

    /// Whether an attempt with this profile may be made now.
    ///
    /// An endpoint that is down gets one attempt at a time. Other profiles are deferred for a stated time, so that they do not hold
    /// up the deliveries to the other endpoints.
    func admits(_ item: Dispatch, _ now: MonotonicTime) -> Bool { availability.admits(item.identity, now) }

    /// How long until the next probe with this profile.
    func pause(_ item: Dispatch, _ now: MonotonicTime) -> Duration { availability.pause(item.identity, now) }

    /// Whether a profile should not share a request, because it may be the reason why requests fail.
    func suspects(_ item: Dispatch) -> Bool { availability.suspects(item.profile.sequence) }

    /// - Returns: true when the attempt that begins is the probe of an endpoint that is down.
    func began() -> Bool { availability.began() }

    /// Adds the cost of an attempt to the metrics.
    func spent(_ cost: LaneCost) {
        metrics.latency.observe(cost.nanoseconds)
        if cost.openedConnections > 0 { metrics.openedConnections.observe(Int64(cost.openedConnections)) }
        // An attempt that sent nothing had no connection, so it counts neither as opened nor as reused.
        if cost.openedConnections == 0, cost.wireBytes > 0 { metrics.reusedConnections.observe(1) }
        metrics.wireBytes.observe(Int64(cost.wireBytes))
    }

    /// Takes the verdict of an attempt, which may be about several profiles.
    ///
    /// - Parameter isReached: whether the request was sent.
    func ended(_ verdict: Verdict, _ items: DispatchList, isProbe: Bool, isReached: Bool, now: MonotonicTime) {
        var (retries, bytes) = (0, 0)
        items.each { item in
            if item.attempt > 1 { retries += 1 }
            bytes += item.profile.byteCount
        }
        if retries > 0 { metrics.retries.observe(Int64(retries)) }
        switch verdict {
        case .delivered:
            availability.succeeded(items.map(\.identity), isProbe: isProbe, now: now)
            metrics.sentProfiles.observe(Int64(items.count))
            metrics.sentBytes.observe(Int64(bytes))
        case .rejected:
            availability.succeeded(items.map(\.identity), isProbe: isProbe, now: now)
            metrics.droppedProfiles.observe(Int64(items.count))
            metrics.droppedBytes.observe(Int64(bytes))
        case .retry(let reason, _, let status):
            lastFailure = reason
            failed(status != 0 ? .refused : isReached ? .unanswered : .unreached, items, isProbe, now)
        case .misanswered(let reason, _):
            lastFailure = reason
            failed(.refused, items, isProbe, now)
        case .aborted: availability.ended(isProbe: isProbe)
        }
        health.ended(verdict, at: index, isDown: isDown)
    }

    private func failed(_ failure: Availability.Failure, _ items: DispatchList, _ isProbe: Bool, _ now: MonotonicTime) {
        availability.failed(failure, items.map(\.identity), isProbe: isProbe, now: now)
    }
}

/// The metrics of one endpoint, named as in Alloy.
struct EndpointMetrics {
    let sentBytes: GatewayHost.Metric
    let sentProfiles: GatewayHost.Metric
    let droppedBytes: GatewayHost.Metric
    let droppedProfiles: GatewayHost.Metric
    let retries: GatewayHost.Metric
    let latency: GatewayHost.Metric
    let openedConnections: GatewayHost.Metric
    let reusedConnections: GatewayHost.Metric
    let wireBytes: GatewayHost.Metric

    init(_ host: GatewayHost, endpoint: String) {
        func counter(_ name: String, _ help: String) -> GatewayHost.Metric {
            host.metric(.counter, "pyroscope_write_\(name)_total", help: help, labels: [("endpoint", endpoint)])
        }
        sentBytes = counter("sent_bytes", "Bytes of profiles the endpoint took.")
        sentProfiles = counter("sent_profiles", "Profiles the endpoint took.")
        droppedBytes = counter("dropped_bytes", "Bytes of profiles the endpoint refused for good.")
        droppedProfiles = counter("dropped_profiles", "Profiles the endpoint refused for good.")
        retries = counter("retries", "Attempts after the first.")
        openedConnections = counter("connections_opened", "Connections opened for attempts.")
        reusedConnections = counter("connections_reused", "Attempts on a connection that was there.")
        wireBytes = counter("wire_bytes", "Bytes of requests sent, heads included.")
        latency = host.metric(
            .seconds, "pyroscope_write_latency", help: "How long attempts took.", labels: [("endpoint", endpoint)])
    }
}
