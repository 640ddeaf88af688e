import PluginABI
import PluginKit

/// Says the health of all endpoints together, when it changes.
final class EndpointHealth {
    private let host: Host
    private var stated = ""

    init(_ host: Host) { self.host = host }

    func state(_ endpoints: [Endpoint]) {
        if stated.isEmpty, !endpoints.contains(where: { $0.isDown || !$0.refusal.isEmpty }) { return }
        let (down, refusing) = (endpoints.filter(\.isDown), endpoints.filter { !$0.refusal.isEmpty })
        let names = (down + refusing).map(\.config.name).joined(separator: ", ")
        guard names != stated else { return }
        stated = names
        if names.isEmpty { return host.setHealth(.ok) }
        let reasons = down.map { "\($0.config.name): \($0.lastFailure)" } + refusing.map { "\($0.config.name): \($0.refusal)" }
        host.setHealth(down.count == endpoints.count || !refusing.isEmpty ? .failed : .degraded, reasons.joined(separator: "; "))
    }
}
