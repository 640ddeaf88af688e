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
    }

    /// A ``Summary`` in a form that costs little to make: numbers, and all texts in one array.
    package struct Outline: Sendable {
        private let numbers: Summary
        /// Tenant, sender, format, content type, and names and values of labels, each behind its length.
        private let texts: [UInt8]

        package init(_ profile: ReceivedProfile) {
            let view = unsafe profile.view.pointee
            var numbers = Summary()
            (numbers.receivedAt, numbers.from, numbers.until) = unsafe (view.received_ns, view.from_ns, view.until_ns)
            (numbers.isPush, numbers.sampleCount) = (profile.api == .push, profile.sampleCount)
            unsafe UnsafeBufferPointer(start: view.samples, count: view.sample_count).forEach { unsafe numbers.byteCount += $0.bytes.count }
            self.numbers = numbers
            let labels = unsafe UnsafeBufferPointer(start: view.labels, count: view.label_count)
            var size = unsafe 16 + view.tenant.count + view.peer.count + view.format.count + view.content_type.count
            unsafe labels.forEach { label in unsafe size += 8 + label.name.count + label.value.count }
            texts = unsafe [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
                unsafe Self.put(view.tenant, bytes, &count)
                unsafe Self.put(view.peer, bytes, &count)
                unsafe Self.put(view.format, bytes, &count)
                unsafe Self.put(view.content_type, bytes, &count)
                unsafe labels.forEach { label in
                    unsafe Self.put(label.name, bytes, &count)
                    unsafe Self.put(label.value, bytes, &count)
                }
            }
        }

        private static func put(_ text: gw_slice, _ bytes: UnsafeMutableBufferPointer<UInt8>, _ count: inout Int) {
            guard let start = unsafe UnsafeMutableRawPointer(bytes.baseAddress)?.advanced(by: count) else { return }
            unsafe start.storeBytes(of: UInt32(clamping: text.count).littleEndian, as: UInt32.self)
            if let source = unsafe text.bytes { unsafe (start + 4).copyMemory(from: source, byteCount: text.count) }
            unsafe count += 4 + text.count
        }

        /// The bytes that it takes.
        package var byteCount: Int { MemoryLayout<Outline>.stride + texts.count }

        package var summary: Summary {
            var summary = numbers
            unsafe texts.withUnsafeBytes { bytes in
                var reader = unsafe LittleEndianReader(bytes)
                (summary.tenant, summary.peer) = (reader.text() ?? "", reader.text() ?? "")
                (summary.format, summary.contentType) = (reader.text() ?? "", reader.text() ?? "")
                while let name = reader.text(), let value = reader.text() {
                    if !summary.labels.isEmpty { summary.labels += ", " }
                    summary.labels += "\(name)=\"\(value)\""
                }
            }
            return summary
        }
    }

    package var summary: Summary { Outline(self).summary }

    /// The bytes that it keeps in memory, with what its body's buffer has beyond the body.
    package var heldByteCount: Int { byteCount + unusedByteCount + sharedByteCount }
}
