import LinuxSystem
import Synchronization

/// What keeps a connection out.
enum SenderLimit: String, CaseIterable, Sendable {
    case all = "conn_limit"
    case perAddress = "conn_limit_per_address"
    case descriptors
}

/// How many connections each address has to one listener; from any thread.
///
/// All are counted, also while there is no limit, for a reload may bring one.
final class AddressCounts: Sendable {
    private let counts = Mutex<[PeerAddress: Int]>([:])

    /// Counts one more.
    ///
    /// - Parameter limit: 0 is none.
    /// - Returns: false when the limit has been reached, and then it is not counted.
    func take(_ peer: PeerAddress, limit: Int) -> Bool {
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
