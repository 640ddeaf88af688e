import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit

/// One destination: whether it answers, and what it was sent; on the transfer thread only.
final class Endpoint {
    static let failuresUntilDown = 5
    private static let longestPause = Duration.seconds(30)
    /// Whatever a destination asks for, it is asked again after this.
    private static let longestRetryAfter = Duration.seconds(300)

    let config: EndpointConfig
    private let metrics: EndpointMetrics
    private let credentials: Credentials
    /// Where its tokens come from, when it wants such.
    let tokens: TokenSource?
    let files: TLSFiles
    /// Why it does not take what we are; empty when it does, or has not been asked.
    private(set) var refusal = ""
    private var failures = 0
    private var nextProbe = MonotonicTime(nanoseconds: 0)
    private var isProbing = false
    private(set) var lastFailure = ""

    init(_ config: EndpointConfig, host: Host, sockets: SocketWatcher) {
        self.config = config
        metrics = EndpointMetrics(host, endpoint: config.name)
        credentials = Credentials(config.authentication)
        tokens =
            if case .oauth2(let oauth2) = config.authentication {
                TokenSource(oauth2, timeoutMilliseconds: config.timeoutMilliseconds, sockets: sockets)
            } else { nil }
        files = TLSFiles(config.connection)
    }

    /// The value of the Authorization header; nil when there is none to send.
    func authorization() throws(Problem) -> String? {
        if let tokens {
            guard let token = tokens.current(.now) else { throw Problem(position: nil, path: "oauth2", message: "the token is over") }
            return token
        }
        return try credentials.current()
    }

    var isDown: Bool { failures >= Self.failuresUntilDown }

    /// Whether an attempt may be made now.
    ///
    /// A destination that is down gets one attempt at a time; who comes meanwhile is told how long to stay away, so that
    /// its profiles do not hold the deliveries of its siblings.
    func admits(_ now: MonotonicTime) -> Bool { !isDown || (!isProbing && nextProbe <= now) }

    /// - Returns: true when the attempt that begins is the probe of a destination that is down.
    func began() -> Bool {
        if isDown { isProbing = true }
        return isDown
    }

    /// How long until the next probe.
    func pause(_ now: MonotonicTime) -> Duration { max(.milliseconds(100), nextProbe.since(now)) }

    /// A token may have been taken back before its time: then another one is asked for, and the profile is sent again.
    func reconsidered(_ verdict: Verdict, _ authorization: String?) -> Verdict {
        switch verdict {
        case .delivered: tokens?.proved(authorization)
        case .rejected(let reason, 401) where tokens?.refused(authorization) == true:
            return .retry(reason, after: .zero, httpStatus: 401)
        default: break
        }
        return verdict
    }

    /// Takes what an attempt cost.
    func spent(_ cost: Transfer.Cost) {
        metrics.latency.observe(cost.nanoseconds)
        metrics.openedConnections.observe(Int64(cost.openedConnections))
        // A connection that was never made is not counted among the opened ones either.
        if cost.openedConnections == 0, cost.wireBytes > 0 { metrics.reusedConnections.observe(1) }
        metrics.wireBytes.observe(Int64(cost.wireBytes))
    }

    /// Takes the verdict of an attempt, which may be about several profiles.
    func ended(_ verdict: Verdict, _ dispatches: [Dispatch], isProbe: Bool, now: MonotonicTime) {
        metrics.retries.observe(Int64(dispatches.count { $0.attempt > 1 }))
        if isProbe { isProbing = false }
        let bytes = dispatches.reduce(0) { $0 + $1.byteCount }
        switch verdict {
        case .delivered:
            (failures, refusal) = (0, "")
            metrics.sentProfiles.observe(Int64(dispatches.count))
            metrics.sentBytes.observe(Int64(bytes))
        case .rejected(let reason, let status):
            failures = 0
            // Nobody gets a profile through before a person has repaired this.
            if status == 401 || status == 403 { refusal = reason }
            metrics.droppedProfiles.observe(Int64(dispatches.count))
            metrics.droppedBytes.observe(Int64(bytes))
        case .retry(let reason, let after, _):
            lastFailure = reason
            // What was under way when the destination went down fails in a bunch; that is one failure.
            guard !isDown || isProbe else { return }
            failures += 1
            let doublings = min(max(0, failures - Self.failuresUntilDown), 10)
            nextProbe = now + max(min(after, Self.longestRetryAfter), min(Self.longestPause, .milliseconds(500) * (1 << doublings)))
        case .aborted: break
        }
    }
}

/// Alloy's counters for one endpoint.
struct EndpointMetrics {
    let sentBytes: Host.Metric
    let sentProfiles: Host.Metric
    let droppedBytes: Host.Metric
    let droppedProfiles: Host.Metric
    let retries: Host.Metric
    let latency: Host.Metric
    let openedConnections: Host.Metric
    let reusedConnections: Host.Metric
    let wireBytes: Host.Metric

    init(_ host: Host, endpoint: String) {
        func counter(_ name: String, _ help: String) -> Host.Metric {
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
