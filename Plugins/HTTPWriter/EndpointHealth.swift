import PluginABI
import PluginKit

/// Reports the health of all endpoints together to the host, when it changes.
final class EndpointHealth {
    private let host: GatewayHost
    private var stated = ""
    /// Whether the last report was that all is well, or there was none.
    var isGood: Bool { stated.isEmpty }

    init(_ host: GatewayHost) { self.host = host }

    func state(_ endpoints: [Endpoint]) {
        if stated.isEmpty, endpoints.allSatisfy({ Self.trouble($0) == nil }) { return }
        let reasons = endpoints.compactMap { endpoint in Self.trouble(endpoint).map { "\(endpoint.config.name): \($0)" } }
        let isRefused = endpoints.contains { !$0.refusal.isEmpty }
        let areDown = endpoints.allSatisfy { $0.isDown && $0.oddity.isEmpty }
        let kinds = endpoints.map { "\($0.config.name) \($0.isDown) \($0.refusal.isEmpty) \($0.oddity)" }
        let now = reasons.isEmpty ? "" : kinds.joined(separator: ", ")
        guard now != stated else { return }
        stated = now
        if reasons.isEmpty { return host.setHealth(.ok) }
        host.setHealth(areDown || isRefused ? .failed : .degraded, reasons.joined(separator: "; "))
    }

    /// The reason why an endpoint is unhealthy; nil when it is healthy.
    private static func trouble(_ endpoint: Endpoint) -> String? {
        if !endpoint.refusal.isEmpty { return endpoint.refusal }
        if !endpoint.oddity.isEmpty { return endpoint.oddity }
        return endpoint.isDown ? endpoint.lastFailure : nil
    }
}
