import ConfigJSON
public import PluginABI

/// The gateway's services for one instance; callable from any thread.
///
/// Calls after ``Plugin/close()`` has returned do nothing.
public struct GatewayHost: Sendable {
    let access: HostAccess

    /// Writes one line to the gateway's log, tagged with the receiver.
    public func log(_ level: gw_level, _ message: String) {
        unsafe message.withSlice { message in
            access.use { host in unsafe host.pointee.log(host.pointee.context, level, message) }
        }
    }

    /// Reports the instance's health; replaces the previous report.
    public func setHealth(_ health: gw_health, _ reason: String = "") {
        unsafe reason.withSlice { reason in
            access.use { host in unsafe host.pointee.set_health(host.pointee.context, health, reason) }
        }
    }

    /// How many descriptors the instance may have open at a time, at least 1; nil when the gateway does not divide them.
    ///
    /// It may change with a reload, so an instance that keeps connections should query it periodically.
    public var descriptorShare: Int? {
        access.use { host in
            guard let found = unsafe host.pointee.extension(host.pointee.context, GW_DESCRIPTORS_EXTENSION) else { return nil }
            return unsafe Int(found.assumingMemoryBound(to: gw_descriptors.self).pointee.share(host.pointee.context))
        } ?? nil
    }

    /// Calls on the instance's own delivery thread; nil from a gateway that has none such.
    public var loop: DeliveryLoop? { DeliveryLoop(access) }

    /// The config with those strings marked that may give a number or a boolean; during `create` only.
    func markingReferences(_ config: JSONValue) -> JSONValue {
        let text: String?? = access.use { host in
            guard let found = unsafe host.pointee.extension(host.pointee.context, GW_ENVIRONMENT_EXTENSION) else { return nil }
            return unsafe String(cString: found.assumingMemoryBound(to: CChar.self))
        }
        guard case let text?? = text else { return config }
        return config.markingReferences(Set(text.split(separator: "\n").map(String.init)).contains)
    }

    /// Declares a metric; the same name and labels give the same metric.
    ///
    /// - Parameters:
    ///   - kind: counter, gauge or histogram.
    ///   - name: must begin with the plugin's name, with other characters as `_`.
    ///   - help: one sentence for the page of `/metrics`.
    ///   - labels: the names and values of further labels; the gateway adds `receiver`.
    public func metric(
        _ kind: gw_metric_kind, _ name: String, help: String, labels: [(name: String, value: String)] = []
    ) -> Metric {
        // All label texts are in one buffer, because the call needs all of them at once.
        var text: [UInt8] = []
        for label in labels { text += Array(label.name.utf8) + Array(label.value.utf8) }
        let id = unsafe text.withUnsafeBufferPointer { bytes in
            var offset = 0
            func slice(_ part: String) -> gw_slice {
                defer { offset += part.utf8.count }
                return unsafe gw_slice(bytes: bytes.baseAddress?.advanced(by: offset), count: part.utf8.count)
            }
            let table = unsafe labels.map { label in
                let name = unsafe slice(label.name)
                return unsafe gw_label(name: name, value: slice(label.value))
            }
            return unsafe name.withSlice { name in
                unsafe help.withSlice { help in
                    access.use { host in unsafe host.pointee.metric(host.pointee.context, kind, name, help, table, table.count) }
                }
            }
        }
        return Metric(access: access, id: id ?? 0)
    }

    /// Keeps the memory of a profile beyond its delivery, until ``release(_:)``.
    package func retain(_ profile: Profile) { access.use { host in unsafe host.pointee.retain(profile.view) } }

    /// Gives the memory of a profile back. After the end of the instance it stays retained, because nothing may be called then.
    package func release(_ profile: Profile) { access.use { host in unsafe host.pointee.release(profile.view) } }

    /// A counter, gauge or histogram of the gateway; may be used from any thread and is cheap.
    public struct Metric: Sendable {
        let access: HostAccess
        let id: UInt32

        /// Adds to a counter, sets a gauge, or observes a duration in nanoseconds.
        public func observe(_ value: Int64) {
            access.use { host in unsafe host.pointee.observe(host.pointee.context, id, value) }
        }
    }
}
