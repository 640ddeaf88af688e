import PluginABI
import PluginKit
import Synchronization

/// Reports to the host what is wrong with the endpoints of an instance, as the loops have last seen it. Thread-safe.
///
/// A success of any loop ends what another one has reported, because a loop may get no profile for a long time.
final class InstanceHealth: Sendable {
    /// The trouble with one endpoint; none at first.
    private struct Trouble {
        /// The reason of the last 401 or 403 since a success.
        var refusal = ""
        /// Why its last 2xx response was not accepted as a success.
        var oddity = ""
        /// The last failure of an endpoint that is down.
        var failure: String?

        /// The reason why the endpoint is unhealthy; nil when it is healthy.
        var reason: String? { !refusal.isEmpty ? refusal : !oddity.isEmpty ? oddity : failure }
        /// The host is told again when this changes. It leaves out the texts of refusals and failures, which may change each time.
        var kind: String { "\(failure != nil) \(refusal.isEmpty) \(oddity)" }

        mutating func take(_ verdict: Verdict, isDown: Bool) {
            switch verdict {
            case .delivered: self = .init()
            case .rejected(let reason, let status, _):
                // These statuses mean that no profile will be accepted until a person corrects the credentials.
                if status == 401 || status == 403 { refusal = reason }
                failure = nil
            case .retry(let reason, _, _): if isDown { failure = reason }
            case .misanswered(let reason, _):
                oddity = reason
                if isDown { failure = reason }
            case .aborted: break
            }
        }
    }

    private struct State {
        var troubles: [Trouble]
        /// The kinds of the last report; empty when that was that all is well, or there was none.
        var stated = ""
    }

    private let host: GatewayHost
    private let names: [String]
    private let state: Mutex<State>
    /// False while no endpoint is in trouble. Each success asks this, which costs less than the lock.
    private let isTroubled = Atomic(false)

    /// - Parameter endpoints: the names of the endpoints.
    init(_ host: GatewayHost, endpoints names: [String]) {
        (self.host, self.names) = (host, names)
        state = Mutex(State(troubles: names.map { _ in Trouble() }))
    }

    /// Takes the verdict of an attempt at an endpoint.
    ///
    /// - Parameter isDown: whether the loop takes the endpoint to be down after this attempt.
    func ended(_ verdict: Verdict, at endpoint: Int, isDown: Bool) {
        if case .delivered = verdict, !isTroubled.load(ordering: .relaxed) { return }
        // The host is told with the lock held, so that the last that it is told is the latest.
        state.withLock { state in
            state.troubles[endpoint].take(verdict, isDown: isDown)
            isTroubled.store(state.troubles.contains { $0.reason != nil }, ordering: .relaxed)
            report(&state)
        }
    }

    private func report(_ state: inout State) {
        let troubles = state.troubles
        let reasons = zip(names, troubles).compactMap { name, trouble in trouble.reason.map { "\(name): \($0)" } }
        let now = reasons.isEmpty ? "" : troubles.map(\.kind).joined(separator: ", ")
        guard now != state.stated else { return }
        state.stated = now
        if reasons.isEmpty { return host.setHealth(.ok) }
        let areDown = troubles.allSatisfy { $0.failure != nil && $0.oddity.isEmpty }
        let isRefused = troubles.contains { !$0.refusal.isEmpty }
        host.setHealth(areDown || isRefused ? .failed : .degraded, reasons.joined(separator: "; "))
    }
}
