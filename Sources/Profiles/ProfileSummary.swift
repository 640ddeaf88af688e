import LinuxSystem
import PluginABI

extension ReceivedProfile {
    /// What is shown of a profile beside its bytes; it does not keep the profile in memory.
    package struct Summary: Sendable, Equatable {
        /// When it was received, and the span that it covers or 0; Unix nanoseconds.
        package var receivedAt: Int64 = 0
        package var from: Int64 = 0
        package var until: Int64 = 0
        package var isPush = false
        package var tenant = ""
        package var peer = ""
        /// `name="value", …`
        package var labels = ""
        package var format = ""
        package var contentType = ""
        /// The bytes of all samples.
        package var byteCount = 0
        package var sampleCount = 0

        package init() {}

        /// The bytes of its texts.
        package var textByteCount: Int {
            tenant.utf8.count + peer.utf8.count + labels.utf8.count + format.utf8.count + contentType.utf8.count
        }
    }

    package var summary: Summary {
        let view = unsafe view.pointee
        var summary = Summary()
        (summary.isPush, summary.sampleCount) = (api == .push, sampleCount)
        (summary.receivedAt, summary.from, summary.until) = unsafe (view.received_ns, view.from_ns, view.until_ns)
        summary.tenant = unsafe String(slice: view.tenant)
        summary.peer = unsafe String(slice: view.peer)
        summary.format = unsafe String(slice: view.format)
        summary.contentType = unsafe String(slice: view.content_type)
        for index in 0..<sampleCount { summary.byteCount += withSample(index) { $0.byteCount } }
        unsafe UnsafeBufferPointer(start: view.labels, count: view.label_count).forEach { label in
            if !summary.labels.isEmpty { summary.labels += ", " }
            summary.labels += unsafe String(slice: label.name) + "=\"" + String(slice: label.value) + "\""
        }
        return summary
    }

    /// The bytes that it keeps in memory, with what its body's buffer has beyond the body.
    package var heldByteCount: Int { byteCount + unusedByteCount + sharedByteCount }
}

extension String {
    /// Copies a text of the plugin interface.
    fileprivate init(slice: gw_slice) {
        unsafe self.init(decoding: UnsafeBufferPointer(start: slice.bytes, count: slice.bytes == nil ? 0 : slice.count), as: UTF8.self)
    }
}
