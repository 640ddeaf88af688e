import ConfigJSON
import Glibc
import LinuxSystem
import PluginABI
import Profiles
import Synchronization
package import Telemetry

/// The outcome of one operation of a plugin, as the gateway understood it.
package struct DeliveryOutcome: Sendable {
    package enum Status: Sendable { case delivered, retry, rejected, aborted }

    package var status: Status
    package var retryAfter: Duration = .zero
    package var progress: UInt64 = 0
    /// The destination's HTTP status; 0 when there is none.
    package var httpStatus = 0
    package var reason = ""
    /// The destination's message for the sender of the profile; may be empty.
    package var senderMessage = ""

    /// The most bytes of that message that a sender gets.
    static let longestMessage = 256
}

/// The calls that a plugin instance makes to the gateway, from any of its threads.
package protocol PluginEvents: AnyObject, Sendable {
    /// Ends an operation with its outcome.
    func finish(_ token: UInt, _ outcome: DeliveryOutcome)
    func pluginStated(_ health: Health, _ reason: String)
    func pluginLogged(_ level: Log.Level, _ message: String)
    /// Reports that the plugin broke the contract.
    func pluginMisbehaved(_ breach: PluginBreach)
}

/// The `gw_host` of one instance: the C functions that it may call, and the object that receives the calls.
@safe package final class HostServices: Sendable {
    package let metrics: PluginMetrics
    let events: any PluginEvents
    /// The value of the extension `gw.environment/1`; nil when the config has no reference.
    private nonisolated(unsafe) let references: UnsafeMutablePointer<CChar>?
    /// The C table; valid as long as this object.
    nonisolated(unsafe) let table: UnsafeMutablePointer<gw_host>
    private let descriptors: PluginDescriptors
    /// Whether the instance still counts among those that share the plugins' descriptors.
    private let isCounted = Atomic<Bool>(true)

    /// - Parameter references: the paths of the config's strings that each consist of one reference to an environment variable.
    package init(
        events: any PluginEvents, metrics: PluginMetrics, references: Set<String> = [], descriptors: PluginDescriptors = .process
    ) {
        (self.events, self.metrics, self.descriptors) = (events, metrics, descriptors)
        unsafe self.references = references.isEmpty ? nil : strdup(references.sorted().joined(separator: "\n"))
        descriptors.instanceBegan()
        unsafe table = .allocate(capacity: 1)
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe table.initialize(
            to: gw_host(
                size: MemoryLayout<gw_host>.size,
                context: context,
                finish: { context, token, outcome in unsafe HostServices.at(context)?.finish(token, outcome) },
                retain: { _ = unsafe ReceivedProfile.owner(of: $0).retain() },
                release: { unsafe ReceivedProfile.owner(of: $0).release() },
                log: { context, level, message in
                    unsafe HostServices.at(context)?.events.pluginLogged(Log.Level(level), message.text)
                },
                set_health: { context, health, reason in
                    unsafe HostServices.at(context)?.events.pluginStated(Health(health), reason.text)
                },
                metric: { context, kind, name, help, labels, count in
                    let count = unsafe labels == nil ? 0 : min(max(0, count), HostServices.mostLabels)
                    let labels = unsafe UnsafeBufferPointer(start: labels, count: count).map {
                        unsafe MetricLabel(name: $0.name.text, value: $0.value.text)
                    }
                    return unsafe HostServices.at(context)?.declare(kind, name.text, help.text, labels) ?? 0
                },
                observe: { context, id, value in unsafe HostServices.at(context)?.metrics.observe(id, value) },
                extension: { context, id in unsafe HostServices.at(context)?.extension(String(cString: id)) }))
    }

    deinit {
        ended()
        unsafe table.deallocate()
        unsafe free(references)
    }

    private func `extension`(_ id: String) -> UnsafeRawPointer? {
        switch id {
        case GW_ENVIRONMENT_EXTENSION: unsafe UnsafeRawPointer(references)
        case GW_DESCRIPTORS_EXTENSION: unsafe UnsafeRawPointer(Self.shares)
        default: nil
        }
    }

    /// The most labels of a metric; further ones are not read.
    private static let mostLabels = 64

    /// Gives the instance's share of descriptors back; may be called more than once.
    func ended() {
        if isCounted.exchange(false, ordering: .relaxed) { descriptors.instanceEnded() }
    }

    /// The extension `gw.descriptors/1`, shared by all instances; never freed.
    private nonisolated(unsafe) static let shares: UnsafeMutablePointer<gw_descriptors> = {
        let shares = UnsafeMutablePointer<gw_descriptors>.allocate(capacity: 1)
        unsafe shares.initialize(
            to: gw_descriptors(
                size: MemoryLayout<gw_descriptors>.size,
                share: { context in UInt32(clamping: unsafe HostServices.at(context)?.descriptors.instanceShare ?? 1) }))
        return unsafe shares
    }()

    private static func at(_ context: UnsafeMutableRawPointer?) -> HostServices? {
        unsafe context.map { unsafe Unmanaged<HostServices>.fromOpaque($0).takeUnretainedValue() }
    }

    private func finish(_ token: UnsafeMutableRawPointer?, _ outcome: UnsafePointer<gw_outcome>) {
        let token = UInt(bitPattern: token)
        // The header forbids NULL, and C passes it all the same.
        guard UInt(bitPattern: outcome) != 0 else {
            events.pluginMisbehaved(PluginBreach(.outcome, "an outcome that is NULL"))
            return events.finish(token, DeliveryOutcome(status: .retry, reason: "the plugin's outcome was NULL"))
        }
        // The smallest valid outcome is version 1.0's, however large the struct is today.
        let smallest = unsafe MemoryLayout<gw_outcome>.offset(of: \.reason).map { unsafe $0 + MemoryLayout<gw_slice>.size }
        guard let smallest, unsafe outcome.pointee.size >= smallest else {
            events.pluginMisbehaved(
                PluginBreach(.outcome, "an outcome of \(unsafe outcome.pointee.size) bytes, shorter than version 1.0's"))
            return events.finish(token, DeliveryOutcome(status: .retry, reason: "the plugin's outcome was too short"))
        }
        let status: DeliveryOutcome.Status
        switch unsafe outcome.pointee.status {
        case .delivered: status = .delivered
        case .retry: status = .retry
        case .rejected: status = .rejected
        case .aborted: status = .aborted
        case let unknown:
            events.pluginMisbehaved(PluginBreach(.status, "an outcome with the status \(unknown.rawValue), which does not exist"))
            status = .rejected
        }
        unsafe events.finish(
            token,
            DeliveryOutcome(
                status: status, retryAfter: .nanoseconds(Int64(clamping: outcome.pointee.retry_after_ns)),
                progress: outcome.pointee.progress, httpStatus: Int(outcome.pointee.http_status),
                reason: outcome.pointee.reason.text, senderMessage: Self.senderMessage(outcome)))
    }

    /// The outcome's message for the sender, cut to the allowed length; empty when the plugin's struct is too old to have one.
    private static func senderMessage(_ outcome: UnsafePointer<gw_outcome>) -> String {
        let known = unsafe MemoryLayout<gw_outcome>.offset(of: \.sender_message).map { unsafe $0 + MemoryLayout<gw_slice>.size }
        guard let known, unsafe outcome.pointee.size >= known, unsafe outcome.pointee.status == .rejected else { return "" }
        let message = unsafe outcome.pointee.sender_message
        // More than the limit is decoded, because unprintable characters are removed; but not gigabytes, should a plugin pass a
        // wrong count.
        return unsafe message.text(upTo: 16 * DeliveryOutcome.longestMessage).printable.prefix(utf8: DeliveryOutcome.longestMessage)
    }

    private func declare(_ kind: gw_metric_kind, _ name: String, _ help: String, _ labels: [MetricLabel]) -> UInt32 {
        do throws(PluginMetrics.Refusal) {
            return try metrics.declare(kind, name: name, help: help, labels: labels)
        } catch {
            events.pluginMisbehaved(PluginBreach(.metric, error.message))
            return 0
        }
    }
}

extension gw_slice {
    /// The most bytes of a text that a plugin passes; the rest is cut off.
    static let longestText = 4096

    /// The bytes as text, cut to ``longestText``; invalid UTF-8 is replaced.
    var text: String { unsafe text(upTo: Self.longestText) }

    /// The first bytes as text; empty for NULL, whatever the count.
    func text(upTo limit: Int) -> String {
        // A count beyond Int is negative here.
        guard let bytes = unsafe bytes, unsafe count > 0 else { return "" }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: min(count, limit)), as: UTF8.self)
    }
}

extension Log.Level {
    fileprivate init(_ level: gw_level) {
        switch level {
        case .debug: self = .debug
        case .info: self = .info
        case .warning: self = .warning
        default: self = .error
        }
    }
}

extension Health {
    fileprivate init(_ health: gw_health) {
        switch health {
        case .ok: self = .ok
        case .degraded: self = .degraded
        default: self = .failed
        }
    }
}
