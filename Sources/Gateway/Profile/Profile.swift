import LinuxSystem
import PluginABI
import Synchronization

/// What becomes a ``Profile``: everything a request said, before it is laid out for plugins.
///
/// Every text is valid UTF-8 without NUL; whoever fills it has made sure.
struct ProfileContent: Sendable {
    /// One payload: where its bytes lie in the body, and its id on Push.
    struct Sample: Sendable {
        var id = ""
        var range: Range<Int>
    }

    var api: gw_api
    var receivedAt: Int64
    var from: Int64 = 0
    var until: Int64 = 0
    var tenant = ""
    var labels = LabelSet()
    var path: String
    var query = ""
    var format: ProfileFormat
    var contentType = ""
    var contentEncoding = ""
    var headers: [Label] = []
    var samples: [Sample]
}

/// One received profile: immutable, shared by reference, freed with its last holder.
///
/// Labels, texts and the C view that plugins see lie in one block; the body is the buffer it was received into. A plugin
/// holds the view's address, and may retain it past its delivery.
@safe final class Profile: Sendable {
    /// What plugins see; valid as long as this object.
    nonisolated(unsafe) let view: UnsafePointer<gw_profile>
    /// Unique and rising; the same on every attempt.
    let sequence: UInt64
    let api: gw_api
    let receivedAt: Int64
    /// What the profile costs a queue: its body, texts and tables.
    let byteCount: Int
    private let body: ByteBuffer
    private nonisolated(unsafe) let block: UnsafeMutableRawPointer

    // Without a spool there is nothing to continue from, so the clock keeps numbers unique over a restart.
    private static let nextSequence = Atomic<UInt64>(UInt64(clamping: MonotonicTime.unixNanoseconds))

    init(_ content: ProfileContent, body: consuming ByteBuffer) {
        sequence = Self.nextSequence.wrappingAdd(1, ordering: .relaxed).oldValue
        api = content.api
        receivedAt = content.receivedAt
        var layout = ProfileLayout(content)
        unsafe block = layout.allocate()
        unsafe view = layout.fill(content, sequence: sequence, body: body.address)
        byteCount = layout.size + body.count
        self.body = body
        unsafe layout.setOwner(Unmanaged.passUnretained(self).toOpaque())
    }

    deinit { unsafe block.deallocate() }

    /// The profile whose view a plugin holds.
    static func owner(of view: UnsafePointer<gw_profile>) -> Unmanaged<Profile> {
        let block = unsafe UnsafeRawPointer(view) - ProfileLayout.ownerSize
        return unsafe Unmanaged<Profile>.fromOpaque(block.load(as: UnsafeRawPointer.self))
    }
}

/// Lays a profile's texts and tables out in one block:
///
///     owner | gw_profile | gw_label × labels | gw_label × headers | gw_sample × samples | text …
@safe private struct ProfileLayout {
    static let ownerSize = 16

    let labelsAt: Int
    let headersAt: Int
    let samplesAt: Int
    let size: Int
    private var textAt: Int
    private var block: UnsafeMutableRawPointer?

    init(_ content: ProfileContent) {
        labelsAt = unsafe Self.ownerSize + MemoryLayout<gw_profile>.size
        headersAt = unsafe labelsAt + MemoryLayout<gw_label>.stride * content.labels.labels.count
        samplesAt = unsafe headersAt + MemoryLayout<gw_label>.stride * content.headers.count
        textAt = unsafe samplesAt + MemoryLayout<gw_sample>.stride * content.samples.count
        var text = 0
        for label in content.labels.labels { text += label.name.utf8.count + label.value.utf8.count }
        for header in content.headers { text += header.name.utf8.count + header.value.utf8.count }
        for sample in content.samples { text += sample.id.utf8.count }
        text += content.tenant.utf8.count + content.path.utf8.count + content.query.utf8.count
        text += content.format.rawValue.utf8.count + content.contentType.utf8.count
        size = textAt + text + content.contentEncoding.utf8.count
    }

    mutating func allocate() -> UnsafeMutableRawPointer {
        let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        unsafe self.block = unsafe block
        return unsafe block
    }

    func setOwner(_ owner: UnsafeMutableRawPointer) { unsafe block?.storeBytes(of: owner, as: UnsafeMutableRawPointer.self) }

    mutating func fill(_ content: ProfileContent, sequence: UInt64, body: UnsafeMutableRawPointer?) -> UnsafePointer<gw_profile> {
        guard let block = unsafe block else { preconditionFailure("fill follows allocate") }
        let labels = unsafe table(content.labels.labels, at: labelsAt)
        let headers = unsafe table(content.headers, at: headersAt)
        let samples = unsafe (block + samplesAt).bindMemory(to: gw_sample.self, capacity: content.samples.count)
        for (index, sample) in content.samples.enumerated() {
            let bytes = unsafe body?.advanced(by: sample.range.lowerBound).assumingMemoryBound(to: UInt8.self)
            unsafe (samples + index).initialize(
                to: gw_sample(id: text(sample.id), bytes: gw_slice(bytes: bytes, count: sample.range.count)))
        }
        let view = unsafe (block + Self.ownerSize).bindMemory(to: gw_profile.self, capacity: 1)
        unsafe view.initialize(
            to: gw_profile(
                size: MemoryLayout<gw_profile>.size, sequence: sequence, api: content.api,
                received_ns: content.receivedAt, from_ns: content.from, until_ns: content.until,
                tenant: text(content.tenant), labels: labels, label_count: content.labels.labels.count,
                path: text(content.path), query: text(content.query), format: text(content.format.rawValue),
                content_type: text(content.contentType), content_encoding: text(content.contentEncoding),
                headers: headers, header_count: content.headers.count, samples: samples,
                sample_count: content.samples.count))
        return unsafe UnsafePointer(view)
    }

    private mutating func table(_ labels: [Label], at offset: Int) -> UnsafePointer<gw_label>? {
        guard let block = unsafe block else { return nil }
        let table = unsafe (block + offset).bindMemory(to: gw_label.self, capacity: labels.count)
        for (index, label) in labels.enumerated() {
            let name = unsafe text(label.name)
            unsafe (table + index).initialize(to: gw_label(name: name, value: text(label.value)))
        }
        return unsafe UnsafePointer(table)
    }

    private mutating func text(_ string: String) -> gw_slice {
        guard let start = unsafe block?.advanced(by: textAt), !string.isEmpty else {
            return unsafe gw_slice(bytes: nil, count: 0)
        }
        var string = string
        let count = string.withUTF8 { utf8 in
            unsafe UnsafeMutableRawBufferPointer(start: start, count: utf8.count).copyBytes(from: utf8)
            return utf8.count
        }
        textAt += count
        return unsafe gw_slice(bytes: start.assumingMemoryBound(to: UInt8.self), count: count)
    }
}
