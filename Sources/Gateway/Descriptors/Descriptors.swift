import HTTPServer
import LinuxSystem
import PluginHost
import Synchronization
import Telemetry

/// The shares of the process's file descriptors, as the running config divides them.
///
/// The limit is the process's, so there is one instance. Until it divides by a config, it has the shares of an empty config.
final class Descriptors: Sendable {
    static let process = Descriptors(limit: descriptorLimit, plugins: .process)

    /// The connections of senders, to all listeners.
    let senders = ConnectionShare()
    /// The connections to the admin listener, which have a share of their own, whatever senders do.
    let admin = ConnectionShare()
    private let plugins: PluginDescriptors
    private let current: Mutex<DescriptorBudget>
    private let warned = Mutex<[DescriptorBudget.Shortcoming]>([])

    init(limit: Int, plugins: PluginDescriptors = PluginDescriptors(limit: 0)) {
        self.plugins = plugins
        current = Mutex(DescriptorBudget(limit: limit, DescriptorBudget.Demand()))
        apply(budget)
    }

    /// The current division.
    var budget: DescriptorBudget { current.withLock { $0 } }

    /// Divides the descriptors by a config, and logs the shortcomings that are new.
    func divide(_ demand: DescriptorBudget.Demand, limit: Int = descriptorLimit) {
        let budget = DescriptorBudget(limit: limit, demand)
        current.withLock { $0 = budget }
        apply(budget)
        let found = budget.shortcomings(demand)
        let before = warned.withLock { warned in
            defer { warned = found }
            return warned
        }
        for item in found where !before.contains(item) {
            Log.warning(
                item.text,
                [
                    "asked": "\(item.asked)", "possible": "\(item.possible)", "descriptors": "\(limit)",
                    "enough": "\(budget.enough)",
                ])
        }
    }

    private func apply(_ budget: DescriptorBudget) {
        senders.change(limit: budget.listeners, refusals: budget.refusals)
        admin.change(limit: budget.admin, refusals: 1)
        plugins.change(limit: budget.receivers)
    }
}

extension Descriptors {
    /// Adds limits and uses to the page of `/metrics`.
    func collect(into page: inout Exposition) {
        let budget = budget
        let limits = [
            ("listeners", budget.listeners), ("admin", budget.admin), ("receivers", budget.receivers), ("reserve", budget.reserve),
        ]
        for (use, limit) in limits {
            page.add(
                .gauge, "gateway_descriptors_limit", help: "The share of the process's descriptors that a use has.",
                [MetricLabel(name: "use", value: use)], limit)
        }
        for (use, count) in [("listeners", senders.count), ("admin", admin.count)] {
            page.add(
                .gauge, "gateway_descriptors", help: "Descriptors that a use has open now.", [MetricLabel(name: "use", value: use)], count)
        }
    }
}
