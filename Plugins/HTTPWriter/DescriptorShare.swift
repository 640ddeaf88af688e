import LinuxSystem
import PluginKit

/// How many connections a loop may have, from its part of the instance's share of the process's file descriptors; on the thread of
/// the transfers only.
final class DescriptorShare {
    /// The number of idle connections kept when the host gives no share: more than any sensible `max_in_flight`.
    private static let keptWithoutShare = 1024
    /// Descriptors reserved for one DNS lookup, and for a thread's poller and wakeup, which the gateway's delivery loop does not need.
    private static let kept = 6
    /// Descriptors reserved for each endpoint: libcurl's own wakeup pair of a multi handle, or the end of a lookup by the own client.
    private static let keptForEach = 2
    /// How often the share is queried.
    private static let interval = Duration.seconds(2)

    private let host: GatewayHost
    private let endpoints: Int
    private let loops: Int
    private var share: Int?
    /// The time of the next query; never when the host gives no share.
    private(set) var nextLook = MonotonicTime.never

    init(_ host: GatewayHost, endpoints: Int, loops: Int) {
        (self.host, self.endpoints, self.loops) = (host, endpoints, loops)
        _ = look(.now)
    }

    /// How many of the loops that are wanted there can be: each needs as many descriptors for connections as for other things.
    static func loops(_ config: WriterConfig, _ host: GatewayHost) -> Int {
        guard let share = host.descriptorShare else { return config.loops }
        return min(config.loops, max(1, share / (2 * (kept + keptForEach * config.endpoints.count))))
    }

    /// Queries the share again.
    ///
    /// - Returns: whether the share has changed.
    func look(_ now: MonotonicTime) -> Bool {
        let old = share
        share = host.descriptorShare.map { $0 / loops }
        nextLook = share == nil ? .never : now + Self.interval
        return share != old
    }

    /// The most connections of all endpoints together.
    var total: Int { share.map { max(1, $0 - Self.kept - Self.keptForEach * endpoints) } ?? .max }

    /// The most connections of one endpoint: an equal part that the other endpoints cannot use.
    var each: ConnectionLimit {
        guard share != nil else { return ConnectionLimit(open: 0, kept: Self.keptWithoutShare) }
        let part = max(1, total / max(1, endpoints))
        return ConnectionLimit(open: part, kept: part)
    }
}
