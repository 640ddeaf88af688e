import LinuxSystem
import PluginKit

/// How many connections an instance may have, by its share of the process's descriptors; on the transfer thread only.
struct DescriptorShare {
    /// Without a share: more than any `max_in_flight` that makes sense.
    private static let keptWithoutShare = 1024
    /// The poller, the wakeup, and a lookup with what it opens.
    private static let kept = 6
    /// libcurl wakes each multi handle by two of its own.
    private static let keptForEach = 2
    /// How often is asked whether it is another one.
    private static let interval = Duration.seconds(2)

    private let host: Host
    private let endpoints: Int
    private var share: Int?
    /// When it is to be asked for again; never where there is none.
    private(set) var nextLook = MonotonicTime.never

    init(_ host: Host, endpoints: Int) {
        (self.host, self.endpoints) = (host, endpoints)
        _ = look(.now)
    }

    /// Asks again.
    ///
    /// - Returns: whether it has changed.
    mutating func look(_ now: MonotonicTime) -> Bool {
        let old = share
        share = host.descriptorShare
        nextLook = share == nil ? .never : now + Self.interval
        return share != old
    }

    /// The most connections of all endpoints together.
    var total: Int { share.map { max(1, $0 - Self.kept - Self.keptForEach * endpoints) } ?? .max }

    /// The most of one endpoint: its part, which none of the others can take from it.
    var each: ConnectionLimit {
        guard share != nil else { return ConnectionLimit(open: 0, kept: Self.keptWithoutShare) }
        let part = max(1, total / max(1, endpoints))
        return ConnectionLimit(open: part, kept: part)
    }
}
