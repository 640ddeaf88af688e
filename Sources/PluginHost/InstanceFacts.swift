import Glibc
import LinuxSystem
import PluginABI

/// What the extension `gw.instance/1` tells a plugin of its instance.
package struct InstanceFacts: Sendable {
    let receiver: String
    let gatewayVersion: String
    let maxInFlight: Int
    let deliveryTimeout: Duration
    /// Makes the receiver's own folder and returns its path; nil when there is none.
    let makeDirectory: @Sendable () -> String?

    package init(
        receiver: String, gatewayVersion: String, maxInFlight: Int, deliveryTimeout: Duration,
        makeDirectory: @escaping @Sendable () -> String?
    ) {
        (self.receiver, self.gatewayVersion, self.maxInFlight) = (receiver, gatewayVersion, maxInFlight)
        (self.deliveryTimeout, self.makeDirectory) = (deliveryTimeout, makeDirectory)
    }
}

/// The memory that `gw.instance/1` points to; freed with this object.
@safe final class InstanceTable: Sendable {
    nonisolated(unsafe) let pointer: UnsafeMutablePointer<gw_instance>
    private nonisolated(unsafe) let texts: [UnsafeMutablePointer<CChar>?]

    init(_ facts: InstanceFacts) {
        let strings = [facts.receiver, facts.gatewayVersion, facts.makeDirectory() ?? ""]
        unsafe texts = strings.map { unsafe strdup($0) }
        let slices = unsafe zip(texts, strings).map { text, string in
            unsafe gw_slice(bytes: text.map { unsafe UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self) }, count: string.utf8.count)
        }
        unsafe pointer = .allocate(capacity: 1)
        unsafe pointer.initialize(
            to: gw_instance(
                size: MemoryLayout<gw_instance>.size, receiver: slices[0], gateway_version: slices[1], directory: slices[2],
                max_in_flight: UInt32(clamping: facts.maxInFlight),
                delivery_timeout_ns: UInt64(clamping: facts.deliveryTimeout.inNanoseconds)))
    }

    deinit {
        unsafe pointer.deallocate()
        unsafe texts.forEach { unsafe free($0) }
    }
}
