import ConfigJSON
import LinuxSystem
import PluginABI
import PluginABI
import PluginKit

/// One destination: whether it answers, and what it was sent; on the transfer thread only.
final class Endpoint {
    static let failuresUntilDown = 5
    private static let longestPause = Duration.seconds(30)
    /// Whatever a destination asks for, it is asked again after this.
    private static let longestRetryAfter = Duration.seconds(300)

    let config: WriterConfig.Endpoint
    private let metrics: EndpointMetrics
    private var failures = 0
    private var nextProbe = MonotonicTime(nanoseconds: 0)
    private var isProbing = false
    private(set) var lastFailure = ""

    init(_ config: WriterConfig.Endpoint, host: Host) {
        self.config = config
        metrics = EndpointMetrics(host, endpoint: config.name)
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

    /// Takes the verdict of an attempt.
    func ended(_ verdict: Verdict, isProbe: Bool, bytes: Int, attempt: Int, now: MonotonicTime) {
        if attempt > 1 { metrics.retries.observe(1) }
        if isProbe { isProbing = false }
        switch verdict {
        case .delivered:
            failures = 0
            metrics.sentProfiles.observe(1)
            metrics.sentBytes.observe(Int64(bytes))
        case .rejected:
            failures = 0
            metrics.droppedProfiles.observe(1)
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

    init(_ host: Host, endpoint: String) {
        func counter(_ name: String, _ help: String) -> Host.Metric {
            host.metric(.counter, "pyroscope_write_\(name)_total", help: help, labels: [("endpoint", endpoint)])
        }
        sentBytes = counter("sent_bytes", "Bytes of profiles the endpoint took.")
        sentProfiles = counter("sent_profiles", "Profiles the endpoint took.")
        droppedBytes = counter("dropped_bytes", "Bytes of profiles the endpoint refused for good.")
        droppedProfiles = counter("dropped_profiles", "Profiles the endpoint refused for good.")
        retries = counter("retries", "Attempts after the first.")
    }
}
