import CCrashGuard
import ConfigJSON
import Glibc
import LinuxSystem
import PluginABI
import Profiles
import Synchronization
package import Telemetry

/// The outcome of one operation of a plugin, as the gateway understood it.
package struct DeliveryOutcome: Sendable {
    package enum Status: UInt8, Sendable { case delivered = 1, retry, rejected, aborted }

    package var status: Status
    package var retryAfter: Duration = .zero
    package var progress: UInt64 = 0
    /// The destination's HTTP status; 0 when there is none.
    package var httpStatus = 0
    package var reason = ""
    /// The destination's message for the sender of the profile; may be empty.
    package var senderMessage = ""

    package init(
        status: Status, retryAfter: Duration = .zero, progress: UInt64 = 0, httpStatus: Int = 0, reason: String = "",
        senderMessage: String = ""
    ) {
        self.status = status
        self.retryAfter = retryAfter
        self.progress = progress
        self.httpStatus = httpStatus
        self.reason = reason
        self.senderMessage = senderMessage
    }

    /// The most bytes of that message that a sender gets.
    static let longestMessage = 256
}

/// The calls that a plugin instance makes to the gateway, from any of its threads.
package protocol PluginEvents: AnyObject, Sendable {
    /// Ends an operation with its outcome.
    func finish(_ token: UInt, _ outcome: DeliveryOutcome)
    func pluginStated(_ health: Health, _ reason: String)
    func pluginLogged(_ level: Log.Level, _ message: String)
    /// Reports that a timer of the plugin was set or taken back; who sleeps until ``PluginTimers/next`` looks again.
    func timerSet()
    /// Reports that the plugin broke the contract.
    func pluginMisbehaved(_ breach: PluginBreach)
    /// Reports that the plugin's process has ended, which was not asked for; its open operations are not finished any more.
    func pluginEnded(_ end: PluginEnd)
}

/// The `gw_host` of one instance: the C functions that it may call, and the object that receives the calls.
@safe package final class HostServices: Sendable {
    package let metrics: PluginMetrics
    let events: any PluginEvents
    let timers = PluginTimers()
    let loop = PluginLoop()
    /// The value of the extension `gw.environment/1`; nil when the config has no reference.
    private nonisolated(unsafe) let references: UnsafeMutablePointer<CChar>?
    /// The C table; valid as long as this object.
    nonisolated(unsafe) let table: UnsafeMutablePointer<gw_host>
    private let descriptors: PluginDescriptors
    let facts: InstanceFacts?
    /// The value of `gw.instance/1`, made when it is first asked for.
    private let instanceTable = Mutex<InstanceTable?>(nil)
    /// Whether the instance still counts among those that share the plugins' descriptors.
    private let isCounted = Atomic<Bool>(true)

    /// - Parameters:
    ///   - references: the paths of the config's strings that each consist of one reference to an environment variable.
    ///   - facts: what the plugin may know of its instance; nil tells it nothing.
    package init(
        events: any PluginEvents, metrics: PluginMetrics, references: Set<String> = [], facts: InstanceFacts? = nil,
        descriptors: PluginDescriptors = .process
    ) {
        (self.events, self.metrics, self.descriptors, self.facts) = (events, metrics, descriptors, facts)
        unsafe self.references = references.isEmpty ? nil : strdup(references.sorted().joined(separator: "\n"))
        descriptors.instanceBegan()
        unsafe table = .allocate(capacity: 1)
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe table.initialize(
            to: gw_host(
                size: MemoryLayout<gw_host>.size,
                context: context,
                finish: { context, token, outcome in unsafe HostServices.lent(context) { unsafe $0.finish(token, outcome) } },
                retain: { _ = unsafe ReceivedProfile.owner(of: $0).retain() },
                release: { unsafe ReceivedProfile.owner(of: $0).release() },
                log: { context, level, message in
                    unsafe HostServices.at(context)?.events.pluginLogged(Log.Level(level), message.text)
                },
                set_health: { context, health, reason in
                    unsafe HostServices.at(context)?.events.pluginStated(Health(health), reason.text)
                },
                metric: { context, kind, name, help, labels, count in
                    unsafe HostServices.at(context)?.declare(kind, name.text, help.text, HostServices.copy(labels, count)) ?? 0
                },
                observe: { context, id, value in unsafe HostServices.lent(context) { $0.metrics.observe(id, value) } },
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
        case GW_INSTANCE_EXTENSION: unsafe instanceExtension()
        case GW_DESCRIPTORS_EXTENSION: unsafe UnsafeRawPointer(Self.shares)
        case GW_TIMER_EXTENSION: unsafe UnsafeRawPointer(PluginTimers.table)
        case GW_LOOP_EXTENSION: unsafe UnsafeRawPointer(PluginLoop.table)
        case GW_JSON_EXTENSION: unsafe UnsafeRawPointer(JSONExtension.table)
        default: nil
        }
    }

    private func instanceExtension() -> UnsafeRawPointer? {
        guard let facts else { return nil }
        return unsafe instanceTable.withLock { table in
            let made = table ?? InstanceTable(facts)
            table = made
            return unsafe UnsafeRawPointer(made.pointer)
        }
    }

    /// The most labels of a metric; further ones are not read.
    static let mostLabels = 64

    /// Gives the instance's descriptors and its share of them back; may be called more than once.
    func ended() {
        loop.close()
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

    static func at(_ context: UnsafeMutableRawPointer?) -> HostServices? {
        unsafe context.map { unsafe Unmanaged<HostServices>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Passes the services to `body` without counting a reference, for the calls of each profile: the table, and so its owner, is valid
    /// until `destroy` returns, and a plugin calls it only until then.
    @inline(__always)
    private static func lent(_ context: UnsafeMutableRawPointer?, _ body: (HostServices) -> Void) {
        guard let context = unsafe context else { return }
        unsafe Unmanaged<HostServices>.fromOpaque(context)._withUnsafeGuaranteedRef { body($0) }
    }

    private func finish(_ token: UnsafeMutableRawPointer?, _ outcome: UnsafePointer<gw_outcome>) {
        let token = UInt(bitPattern: token)
        let copy: gw_outcome
        do throws(PluginBreach) { unsafe copy = try unsafe Self.copy(outcome) } catch {
            events.pluginMisbehaved(error)
            return events.finish(token, DeliveryOutcome(status: .retry, reason: "the plugin gave \(error.what)"))
        }
        let status: DeliveryOutcome.Status
        switch unsafe copy.status {
        case .delivered: status = .delivered
        case .retry: status = .retry
        case .rejected: status = .rejected
        case .aborted: status = .aborted
        case let unknown:
            events.pluginMisbehaved(PluginBreach(.status, "an outcome with the status \(unknown.rawValue), which does not exist"))
            status = .rejected
        }
        // More than the limit is decoded, because unprintable characters are removed; but not gigabytes, should a plugin pass a
        // wrong count.
        let message = status == .rejected ? unsafe copy.sender_message.text(upTo: 16 * DeliveryOutcome.longestMessage) : ""
        unsafe events.finish(
            token,
            DeliveryOutcome(
                status: status, retryAfter: .nanoseconds(Int64(clamping: copy.retry_after_ns)), progress: copy.progress,
                httpStatus: Int(copy.http_status), reason: copy.reason.text,
                senderMessage: message.printable.prefix(utf8: DeliveryOutcome.longestMessage)))
    }

    /// Copies an outcome; a field that is not wholly in the plugin's struct is zero.
    private static func copy(_ outcome: UnsafePointer<gw_outcome>) throws(PluginBreach) -> gw_outcome {
        // The header forbids NULL, and C passes it all the same.
        guard UInt(bitPattern: outcome) != 0 else { throw PluginBreach(.outcome, "an outcome that is NULL") }
        var size = 0
        guard unsafe crash_guard_copy(&size, outcome, MemoryLayout<Int>.size) else {
            throw PluginBreach(.outcome, "an outcome that cannot be read")
        }
        // The smallest valid outcome is version 1.0's, however large the struct is today.
        guard UInt(bitPattern: size) >= UInt(GW_V1_0_OUTCOME) else {
            throw PluginBreach(.outcome, "an outcome of \(size) bytes, shorter than version 1.0's")
        }
        var copy = unsafe gw_outcome()
        let known = unsafe UInt(MemoryLayout<gw_outcome>.size)
        guard unsafe crash_guard_copy(&copy, outcome, Int(min(UInt(bitPattern: size), known))) else {
            throw PluginBreach(.outcome, "an outcome that cannot be read")
        }
        if UInt(bitPattern: size) < known { unsafe copy.sender_message = gw_slice() }
        return unsafe copy
    }

    /// Copies the labels of a metric; nil when they cannot be read.
    private static func copy(_ labels: UnsafePointer<gw_label>?, _ count: Int) -> [MetricLabel]? {
        guard let labels = unsafe labels, count > 0 else { return [] }
        return unsafe withUnsafeTemporaryAllocation(of: gw_label.self, capacity: min(count, mostLabels)) { copy in
            let size = unsafe copy.count * MemoryLayout<gw_label>.stride
            guard let start = copy.baseAddress, unsafe crash_guard_copy(start, labels, size) else { return nil }
            return unsafe copy.map { unsafe MetricLabel(name: $0.name.text, value: $0.value.text) }
        }
    }

    /// Declares a metric of a plugin in another process.
    func declare(_ kind: UInt32, _ name: String, _ help: String, _ labels: [MetricLabel]) -> UInt32 {
        gw_metric_kind(rawValue: kind).map { declare($0, name, help, labels) } ?? 0
    }

    private func declare(_ kind: gw_metric_kind, _ name: String, _ help: String, _ labels: [MetricLabel]?) -> UInt32 {
        do throws(PluginMetrics.Refusal) {
            guard let labels else { throw PluginMetrics.Refusal("metric \(quotedForPeople(name)) has labels that cannot be read") }
            if metrics.hasOtherHelp(name, help) {
                events.pluginMisbehaved(PluginBreach(.metric, "metric \(name) was declared before with another help text"))
            }
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

    /// The first bytes as text; empty for NULL, whatever the count, and for what cannot be read.
    func text(upTo limit: Int) -> String {
        // A count beyond Int is negative here.
        guard let bytes = unsafe bytes, unsafe count > 0 else { return "" }
        return unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: min(count, limit)) { copy in
            let isReadable = unsafe copy.baseAddress.map { unsafe crash_guard_copy($0, bytes, copy.count) } ?? false
            return isReadable ? unsafe String(decoding: copy, as: UTF8.self) : ""
        }
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
