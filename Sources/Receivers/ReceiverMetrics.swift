import ConfigJSON
import LinuxSystem
package import PluginHost
package import Telemetry

extension Receiver {
    /// Adds what the receiver and its plugin count to the page of `/metrics`.
    package func collect(into page: inout Exposition) {
        let labels = [MetricLabel(name: "receiver", value: name)]
        let (account, queued, bytes, health, breaches, restarts) = state.withLock {
            ($0.account, $0.queuedCount, $0.queuedBytes, $0.health.0, $0.breaches, $0.restarts)
        }
        page.add(.counter, "gateway_profiles_accepted_total", help: "Profiles taken into the receiver's queue.", labels, account.accepted)
        page.add(
            .counter, "gateway_profiles_recovered_total", help: "Profiles that the spool held at the start.", labels, account.recovered)
        page.add(.counter, "gateway_profiles_delivered_total", help: "Profiles delivered.", labels, account.delivered)
        for reason in DropReason.allCases {
            page.add(
                .counter, "gateway_profiles_dropped_total", help: "Profiles dropped, by the rule that did it.",
                labels + [MetricLabel(name: "reason", value: reason.rawValue)], account.dropped[reason] ?? 0)
        }
        page.add(
            .counter, "gateway_profiles_dead_lettered_total", help: "Profiles put with the dead letters.", labels, account.deadLettered)
        page.add(.counter, "gateway_retries_total", help: "Deliveries that ended in a retry.", labels, account.retries)
        page.add(.gauge, "gateway_queue_profiles", help: "Profiles queued, open deliveries included.", labels, queued)
        page.add(.gauge, "gateway_queue_bytes", help: "Bytes of the queued profiles.", labels, bytes)
        collectTimes(labels, into: &page)
        for kind in PluginBreach.Kind.allCases {
            page.add(
                .counter, "gateway_plugin_breaches_total", help: "Breaches of the plugin interface's contract, by kind.",
                labels + [MetricLabel(name: "kind", value: kind.rawValue)], breaches.counts[kind] ?? 0)
        }
        if let instance {
            let identity = instance.identity
            let facts = [
                ("plugin", identity.name), ("version", identity.version), ("interface", identity.interface), ("path", instance.file.path),
                ("sha256", identity.sha256), ("isolation", isolationName),
            ]
            page.add(
                .gauge, "gateway_plugin_info", help: "1 for the plugin that the receiver has now.",
                labels + facts.map { MetricLabel(name: $0.0, value: $0.1) }, 1)
        }
        page.add(
            .counter, "gateway_plugin_restarts_total", help: "How often an isolated plugin's process ended and was started again.", labels,
            restarts)
        page.add(
            .gauge, "gateway_receiver_health", help: "0 ok, 1 degraded, 2 failed.", labels,
            health == .ok ? 0 : health == .degraded ? 1 : 2)
        instance?.host.metrics.collect(receiver: name, into: &page)
    }

    private func collectTimes(_ labels: [MetricLabel], into page: inout Exposition) {
        page.add(
            .gauge, "gateway_queue_oldest_seconds", help: "How long the oldest queued profile has waited; 0 when none is queued.", labels,
            Double(state.withLock { $0.queue.longestWait(.now) }) / 1e9)
        page.add("gateway_delivery_seconds", help: "How long deliveries took, from the call to the outcome.", labels, latency)
        page.add(
            "gateway_profile_age_seconds", help: "How old profiles were when they were delivered, from the end of what they cover.", labels,
            profileAge)
    }

    /// What the status page and the admin listener's page show of a receiver.
    package struct Picture: Sendable {
        package let name: String
        package let isRequired: Bool
        package var plugin = ""
        package var version = ""
        package var isolation = "none"
        fileprivate var pluginFile = (path: "", interface: "", sha256: "")
        package let health: Health
        package let reason: String
        package let queuedProfiles: Int
        package let queuedBytes: Int
        package let oldestSeconds: Double
        package let openDeliveries: Int
        package let accepted: Int
        package let delivered: Int
        package let retries: Int
        /// The reasons for which profiles were dropped, with their numbers.
        package let drops: [(reason: String, count: Int)]
        package let deadLettered: Int
        package let lastError: String
        package let breaches: Int
        package let lastBreach: String
        package let restarts: Int
        /// The deliveries so far and the seconds that they took together.
        package var deliveries = (count: 0, seconds: 0.0)

        fileprivate init(_ state: Receiver.State) {
            (name, isRequired) = (state.config.name, state.config.required)
            (health, reason) = state.health
            (queuedProfiles, queuedBytes) = (state.queuedCount, state.queuedBytes)
            oldestSeconds = Double(state.queue.longestWait(.now)) / 1e9
            (openDeliveries, lastError) = (state.serving?.openDeliveries ?? 0, state.serving?.lastError ?? "")
            (accepted, delivered, retries) = (state.account.accepted, state.account.delivered, state.account.retries)
            drops = DropReason.allCases.compactMap { reason in state.account.dropped[reason].map { (reason.rawValue, $0) } }
            deadLettered = state.account.deadLettered
            (breaches, lastBreach) = (state.breaches.counts.values.reduce(0, +), state.breaches.last?.what ?? "")
            restarts = state.restarts
        }
    }

    package var picture: Picture {
        var picture = state.withLock { Picture($0) }
        let identity = instance?.identity
        (picture.plugin, picture.version) = (identity?.name ?? config.plugin, identity?.version ?? "")
        (picture.isolation, picture.deliveries) = (isolationName, latency.total)
        picture.pluginFile = (instance?.file.path ?? "", identity?.interface ?? "", identity?.sha256 ?? "")
        return picture
    }

    private var isolationName: String { present?.isolation == nil ? "none" : "process" }
}

extension Receiver.Picture {
    /// This receiver on the status page.
    ///
    /// - Parameter more: further members.
    package func statusObject(_ more: String) -> String {
        let plugin = version.isEmpty ? plugin : "\(plugin) \(version)"
        let dropped = drops.map { "\(JSONValue.quoted($0.reason)):\($0.count)" }.joined(separator: ",")
        return """
            {"name":\(JSONValue.quoted(name)),"plugin":\(JSONValue.quoted(plugin)),"required":\(isRequired),\
            "health":"\(health.rawValue)","reason":\(JSONValue.quoted(reason)),\
            "queue_profiles":\(queuedProfiles),"queue_bytes":\(queuedBytes),"queue_oldest_seconds":\(oldestSeconds),\
            "open_deliveries":\(openDeliveries),"last_error":\(JSONValue.quoted(lastError)),\
            "delivered":\(delivered),"retries":\(retries),"dropped":{\(dropped)},"dead_lettered":\(deadLettered),\
            "breaches":\(breaches),"last_breach":\(JSONValue.quoted(lastBreach)),\
            "plugin_path":\(JSONValue.quoted(pluginFile.path)),"plugin_interface":"\(pluginFile.interface)",\
            "plugin_sha256":"\(pluginFile.sha256)","isolation":"\(isolation)","restarts":\(restarts)\(more)}
            """
    }
}

extension DeadLetters {
    /// Adds what is counted of one receiver's letters to the page of `/metrics`.
    package func collect(_ receiver: String, into page: inout Exposition) {
        let labels = [MetricLabel(name: "receiver", value: receiver)]
        page.add(.gauge, "gateway_dead_letters", help: "Dead letters that are kept.", labels, count(of: receiver))
        page.add(.gauge, "gateway_dead_letter_bytes", help: "Bytes of the dead letters that are kept.", labels, bytes(of: receiver))
        page.add(
            .counter, "gateway_dead_letters_removed_total", help: "Dead letters removed to keep their bounds.", labels,
            removed(of: receiver))
    }
}
