import PluginABI
import PluginKit
import Synchronization

/// Reports the health of an instance to the host, which is that of its worst loop. Thread-safe.
final class HealthReport: Sendable {
    fileprivate struct Entry: Equatable {
        var health = gw_health.ok
        var reason = ""
    }

    private let host: GatewayHost
    /// The latest of each loop.
    private let entries: Mutex<[Entry]>

    init(_ host: GatewayHost, loops: Int) {
        self.host = host
        entries = Mutex(Array(repeating: Entry(), count: loops))
    }

    /// The part of one loop.
    func part(_ index: Int) -> HealthPart { HealthPart(report: self, index: index) }

    fileprivate func set(_ index: Int, _ entry: Entry) {
        // The host is told with the lock held, so that the last that it is told is the latest.
        entries.withLock { entries in
            let before = Self.worst(entries)
            entries[index] = entry
            let now = Self.worst(entries)
            if now != before { host.setHealth(now.health, now.reason) }
        }
    }

    private static func worst(_ entries: [Entry]) -> Entry {
        entries.reduce(Entry()) { $1.health.rawValue > $0.health.rawValue ? $1 : $0 }
    }
}

/// What one loop adds to the health of its instance.
struct HealthPart: Sendable {
    fileprivate let report: HealthReport
    fileprivate let index: Int

    func set(_ health: gw_health, _ reason: String = "") { report.set(index, .init(health: health, reason: reason)) }
}

/// Reports the health of a loop's endpoints together, when it changes.
final class EndpointHealth {
    private let part: HealthPart
    private var stated = ""
    /// Whether the last report was that all is well, or there was none.
    var isGood: Bool { stated.isEmpty }

    init(_ part: HealthPart) { self.part = part }

    func state(_ endpoints: [Endpoint]) {
        if stated.isEmpty, endpoints.allSatisfy({ Self.trouble($0) == nil }) { return }
        let reasons = endpoints.compactMap { endpoint in Self.trouble(endpoint).map { "\(endpoint.config.name): \($0)" } }
        let isRefused = endpoints.contains { !$0.refusal.isEmpty }
        let areDown = endpoints.allSatisfy { $0.isDown && $0.oddity.isEmpty }
        let kinds = endpoints.map { "\($0.config.name) \($0.isDown) \($0.refusal.isEmpty) \($0.oddity)" }
        let now = reasons.isEmpty ? "" : kinds.joined(separator: ", ")
        guard now != stated else { return }
        stated = now
        if reasons.isEmpty { return part.set(.ok) }
        part.set(areDown || isRefused ? .failed : .degraded, reasons.joined(separator: "; "))
    }

    /// The reason why an endpoint is unhealthy; nil when it is healthy.
    private static func trouble(_ endpoint: Endpoint) -> String? {
        if !endpoint.refusal.isEmpty { return endpoint.refusal }
        if !endpoint.oddity.isEmpty { return endpoint.oddity }
        return endpoint.isDown ? endpoint.lastFailure : nil
    }
}
