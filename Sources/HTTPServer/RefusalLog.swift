import LinuxSystem
import Synchronization
import Telemetry

/// Decides which refusals of a listener are lines of the log: one a minute of each kind, whoever causes them. Thread-safe.
final class RefusalLog: Sendable {
    /// What is counted together.
    enum Kind: Int, CaseIterable, Sendable {
        case malformed, unauthenticated, forbidden, unknownPath, tls, proxy

        /// The kind of an answer; nil for one that is told in other ways.
        init?(status: Int) {
            switch status {
            case 400: self = .malformed
            case 401: self = .unauthenticated
            case 403: self = .forbidden
            case 404: self = .unknownPath
            default: return nil
            }
        }
    }

    static let interval = Duration.seconds(60)

    private let throttles = Mutex(Kind.allCases.map { _ in LogThrottle(every: interval) })

    /// Counts one more refusal.
    ///
    /// - Returns: how many refusals the line that is due now stands for; nil when no line is due.
    func note(_ kind: Kind, now: MonotonicTime) -> Int? { throttles.withLock { $0[kind.rawValue].count(now) } }
}

extension Connection {
    /// Logs a refused request; the query is left out, for it may hold secrets.
    func logRefusal(_ status: Int, _ response: Response) {
        let reason = String(decoding: response.body.prefix(512), as: UTF8.self)
        guard let kind = RefusalLog.Kind(status: status), let count = listener.counters.refusals.note(kind, now: table.now) else {
            return Log.debug("request refused", ["listener": listener.name, "status": "\(status)", "reason": reason])
        }
        let path = String(decoding: request.head[request.head.path].prefix(Self.longestLoggedPath), as: UTF8.self)
        Log.warning(
            "request refused",
            [
                "listener": listener.name, "status": "\(status)", "path": path, "peer": Self.text(of: request.head.peer),
                "count": "\(count)", "reason": reason,
            ])
    }

    /// Logs a connection that has to close before it has a request.
    func logMistake(_ kind: RefusalLog.Kind, _ message: String, _ reason: String) {
        guard let count = listener.counters.refusals.note(kind, now: table.now) else {
            return Log.debug(message, ["listener": listener.name, "reason": reason])
        }
        Log.warning(message, ["listener": listener.name, "peer": Self.text(of: peer), "count": "\(count)", "reason": reason])
    }

    private static let longestLoggedPath = 128

    private static func text(of peer: PeerAddress) -> String { peer == .local ? "unix" : peer.address }
}
