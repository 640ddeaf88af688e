import Glibc
import LinuxSystem
import PluginABI
import Synchronization

/// How a plugin ended one operation, as the gateway understood it.
struct DeliveryOutcome: Sendable {
    enum Status: Sendable { case delivered, retry, rejected, aborted }

    var status: Status
    var retryAfter: Duration = .zero
    var progress: UInt64 = 0
    /// The destination's own status; 0 when it has none.
    var httpStatus = 0
    var reason = ""
}

/// What a plugin instance says to the gateway, from any of its threads.
protocol PluginEvents: AnyObject, Sendable {
    /// Ends an operation.
    func settle(_ token: UInt, _ outcome: DeliveryOutcome)
    func pluginStated(_ health: Health, _ reason: String)
    func pluginLogged(_ level: Log.Level, _ message: String)
    /// The plugin broke the contract.
    func pluginMisbehaved(_ what: String)
}

/// The `gw_host` of one instance: the C functions it may call, and who hears them.
@safe final class HostServices: Sendable {
    let metrics: PluginMetrics
    let events: any PluginEvents
    /// The C view; valid as long as this object.
    nonisolated(unsafe) let table: UnsafeMutablePointer<gw_host>
    private let descriptors: Descriptors
    /// Whether the instance counts among those that share the plugins' descriptors.
    private let isCounted = Atomic<Bool>(true)

    init(events: any PluginEvents, metrics: PluginMetrics, descriptors: Descriptors = .process) {
        (self.events, self.metrics, self.descriptors) = (events, metrics, descriptors)
        descriptors.instanceBegan()
        unsafe table = .allocate(capacity: 1)
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe table.initialize(
            to: gw_host(
                size: MemoryLayout<gw_host>.size,
                context: context,
                finish: { context, token, outcome in unsafe HostServices.at(context)?.finish(token, outcome) },
                retain: { _ = unsafe Profile.owner(of: $0).retain() },
                release: { unsafe Profile.owner(of: $0).release() },
                log: { context, level, message in
                    unsafe HostServices.at(context)?.events.pluginLogged(Log.Level(level), message.text)
                },
                set_health: { context, health, reason in
                    unsafe HostServices.at(context)?.events.pluginStated(Health(health), reason.text)
                },
                metric: { context, kind, name, help, labels, count in
                    let labels = unsafe UnsafeBufferPointer(start: labels, count: count).map {
                        unsafe Label(name: $0.name.text, value: $0.value.text)
                    }
                    return unsafe HostServices.at(context)?.declare(kind, name.text, help.text, labels) ?? 0
                },
                observe: { context, id, value in unsafe HostServices.at(context)?.metrics.observe(id, value) },
                extension: { _, id in unsafe strcmp(id, GW_DESCRIPTORS_EXTENSION) == 0 ? UnsafeRawPointer(HostServices.shares) : nil }))
    }

    deinit {
        ended()
        unsafe table.deallocate()
    }

    /// The instance is gone, and with it what it held; once more is no error.
    func ended() {
        if isCounted.exchange(false, ordering: .relaxed) { descriptors.instanceEnded() }
    }

    /// The extension `gw.descriptors/1`, the same for all instances; never freed.
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
        // The smallest outcome is v1.0's, whatever today's struct has grown to.
        let smallest = unsafe MemoryLayout<gw_outcome>.offset(of: \.reason).map { unsafe $0 + MemoryLayout<gw_slice>.size }
        guard let smallest, unsafe outcome.pointee.size >= smallest else {
            events.pluginMisbehaved("an outcome of \(unsafe outcome.pointee.size) bytes, shorter than version 1.0's")
            return events.settle(token, DeliveryOutcome(status: .retry, reason: "the plugin's outcome was too short"))
        }
        let status: DeliveryOutcome.Status =
            switch unsafe outcome.pointee.status {
            case .delivered: .delivered
            case .retry: .retry
            case .aborted: .aborted
            default: .rejected
            }
        unsafe events.settle(
            token,
            DeliveryOutcome(
                status: status, retryAfter: .nanoseconds(Int64(clamping: outcome.pointee.retry_after_ns)),
                progress: outcome.pointee.progress, httpStatus: Int(outcome.pointee.http_status),
                reason: outcome.pointee.reason.text))
    }

    private func declare(_ kind: gw_metric_kind, _ name: String, _ help: String, _ labels: [Label]) -> UInt32 {
        do throws(PluginMetrics.Refusal) {
            return try metrics.declare(kind, name: name, help: help, labels: labels)
        } catch {
            events.pluginMisbehaved(error.message)
            return 0
        }
    }
}

extension gw_slice {
    /// The bytes as text; invalid UTF-8 is replaced.
    var text: String { unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self) }
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
