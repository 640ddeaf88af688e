import LinuxSystem
import Synchronization

/// The limit for which a connection is refused.
package enum SenderLimit: String, CaseIterable, Sendable {
    case all = "conn_limit"
    case perAddress = "conn_limit_per_address"
    case descriptors
}

/// The number of connections from each peer address to one listener. Thread-safe.
///
/// Connections are counted even while no limit is set, because a reload may set one.
final class AddressCounts: Sendable {
    private let counts = Mutex<[PeerAddress: Int]>([:])

    /// Counts one more connection.
    ///
    /// - Parameter limit: the most connections from one address; 0 means no limit.
    /// - Returns: false when the limit has been reached; the connection is not counted then.
    func admit(_ peer: PeerAddress, limit: Int) -> Bool {
        counts.withLock { counts in
            let count = counts[peer] ?? 0
            guard limit == 0 || count < limit else { return false }
            counts[peer] = count + 1
            return true
        }
    }

    func release(_ peer: PeerAddress) {
        counts.withLock { counts in
            let left = (counts[peer] ?? 0) - 1
            counts[peer] = left > 0 ? left : nil
        }
    }
}
