package import LinuxSystem
package import PluginABI
import Synchronization

/// The content of a ``ReceivedProfile``: everything that a request said, before it is laid out for plugins.
///
/// Every text is valid UTF-8 without NUL; the code that sets it has checked that. It is passed on and never copied unasked, since each of
/// its texts would be counted anew.
package struct ProfileContent: ~Copyable, Sendable {
    /// One payload: the range of its bytes in the body, and its id in a Push.
    package struct Sample: Sendable {
        package var id = ""
        package var range: Range<Int>

        package init(id: String = "", range: Range<Int>) {
            (self.id, self.range) = (id, range)
        }
    }

    var api: gw_api
    package var receivedAt: Int64
    package var from: Int64 = 0
    package var until: Int64 = 0
    package var tenant = ""
    /// The sender's IP address; empty when it is not known.
    package var peer = ""
    /// The share of a queue that the profile counts against.
    package var share = ShareKey.unknown
    package var labels = LabelSet()
    package var path: String
    package var query = ""
    package var format: ProfileFormat
    package var contentType = ""
    package var contentEncoding = ""
    package var headers: [Label] = []
    package var samples: [Sample]

    package init(api: gw_api, receivedAt: Int64, path: String, format: ProfileFormat, samples: [Sample]) {
        (self.api, self.receivedAt, self.path, self.format, self.samples) = (api, receivedAt, path, format, samples)
    }

    /// A copy with the labels and payloads of one profile.
    package func copy(labels: LabelSet, samples: [Sample]) -> ProfileContent {
        var copy = ProfileContent(api: api, receivedAt: receivedAt, path: path, format: format, samples: samples)
        (copy.labels, copy.from, copy.until, copy.tenant, copy.peer, copy.share) = (labels, from, until, tenant, peer, share)
        (copy.query, copy.contentType, copy.contentEncoding, copy.headers) = (query, contentType, contentEncoding, headers)
        return copy
    }
}

/// One received profile: immutable, shared by reference, freed with its last holder.
///
/// Labels, texts and the C view that plugins see lie in one block; the body is the buffer it was received into. A plugin
/// holds the view's address, and may retain it past its delivery.
@safe package final class ReceivedProfile: Sendable {
    /// What plugins see; valid as long as this object.
    package nonisolated(unsafe) let view: UnsafePointer<gw_profile>
    /// Unique and increasing; the same for every attempt to deliver the profile.
    package let sequence: UInt64
    package let api: gw_api
    let receivedAt: Int64
    /// The share of a queue that the profile counts against; unknown when it was read from the spool, whose index has the share.
    package let share: ShareKey
    /// The bytes that the profile takes of a queue: its body, texts and tables.
    package let byteCount: Int
    /// The bytes that the body's buffer has beyond the body.
    let unusedByteCount: Int
    private let body: ByteBuffer
    /// The profile whose block holds the texts of the request's head; nil when this profile's own block does.
    private let head: ReceivedProfile?
    private nonisolated(unsafe) let block: UnsafeMutableRawPointer
    private let isLeftOut = Atomic<Bool>(false)

    // Starting at the clock keeps the numbers unique over a restart; when the clock was set back, a spool moves them past its
    // own.
    private static let nextSequence = Atomic<UInt64>(UInt64(clamping: MonotonicTime.unixNanoseconds))

    /// The lowest sequence that the next profile can get.
    package static var sequenceToCome: UInt64 { nextSequence.load(ordering: .relaxed) }

    /// Makes the sequences of later profiles larger than `sequence`, which is in the spool.
    ///
    /// A sequence that no clock of this era gives is ignored: behind it, sequences would run out and begin again at 0.
    package static func continueSequence(after sequence: UInt64) {
        if sequence < UInt64(Int64.max) { nextSequence.max(sequence + 1, ordering: .relaxed) }
    }

    /// - Parameter head: a profile of the same request whose texts this one shares, so that a request of many series with a long
    ///   query holds that query once. It lives as long as this profile, so it should have no body.
    /// - Parameter sequence: the sequence of a profile from the spool; nil takes the next one.
    package init(
        _ content: borrowing ProfileContent, body: consuming ByteBuffer, sharing head: ReceivedProfile? = nil, sequence: UInt64? = nil
    ) {
        self.head = head
        self.sequence = sequence ?? Self.nextSequence.wrappingAdd(1, ordering: .relaxed).oldValue
        api = content.api
        (receivedAt, share) = (content.receivedAt, content.share)
        var layout = ProfileLayout(content, sharesHead: head != nil)
        unsafe block = layout.allocate()
        unsafe view = layout.fill(content, sequence: self.sequence, body: body.address, head: head?.view)
        byteCount = layout.size + body.count
        unusedByteCount = body.capacity - body.count
        self.body = body
        unsafe layout.setOwner(Unmanaged.passUnretained(self).toOpaque())
    }

    /// The end of the span that the profile covers, or else when it was received; Unix nanoseconds.
    package var endedAt: Int64 {
        let until = unsafe view.pointee.until_ns
        return until == 0 ? receivedAt : until
    }

    /// Whether the list of recent profiles has left this one out; false for a profile that was read from the spool.
    package var isLeftOutOfRecent: Bool { isLeftOut.load(ordering: .relaxed) }
    package func leaveOutOfRecent() { isLeftOut.store(true, ordering: .relaxed) }

    /// The bytes that belong to another profile, and are in memory once for all that share it.
    package var sharedByteCount: Int { head?.byteCount ?? 0 }

    deinit { unsafe block.deallocate() }

    /// The profile whose view a plugin holds.
    package static func owner(of view: UnsafePointer<gw_profile>) -> Unmanaged<ReceivedProfile> {
        let block = unsafe UnsafeRawPointer(view) - ProfileLayout.ownerSize
        return unsafe Unmanaged<ReceivedProfile>.fromOpaque(block.load(as: UnsafeRawPointer.self))
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

    init(_ content: borrowing ProfileContent, sharesHead: Bool) {
        labelsAt = unsafe Self.ownerSize + MemoryLayout<gw_profile>.size
        headersAt = unsafe labelsAt + MemoryLayout<gw_label>.stride * content.labels.labels.count
        let headers = sharesHead ? [] : content.headers
        samplesAt = unsafe headersAt + MemoryLayout<gw_label>.stride * headers.count
        textAt = unsafe samplesAt + MemoryLayout<gw_sample>.stride * content.samples.count
        var text = content.format.rawValue.utf8.count
        text += Self.textSize(of: content.labels.labels) + Self.textSize(of: headers)
        for sample in content.samples { text += sample.id.utf8.count }
        let shared = [content.tenant, content.path, content.query, content.contentType, content.contentEncoding, content.peer]
        if !sharesHead { for string in shared { text += string.utf8.count } }
        size = textAt + text
    }

    private static func textSize(of labels: [Label]) -> Int {
        labels.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
    }

    mutating func allocate() -> UnsafeMutableRawPointer {
        let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        unsafe self.block = unsafe block
        return unsafe block
    }

    func setOwner(_ owner: UnsafeMutableRawPointer) { unsafe block?.storeBytes(of: owner, as: UnsafeMutableRawPointer.self) }

    mutating func fill(
        _ content: borrowing ProfileContent, sequence: UInt64, body: UnsafeMutableRawPointer?, head: UnsafePointer<gw_profile>?
    ) -> UnsafePointer<gw_profile> {
        guard let block = unsafe block else { preconditionFailure("fill follows allocate") }
        let view = unsafe (block + Self.ownerSize).bindMemory(to: gw_profile.self, capacity: 1)
        unsafe view.initialize(to: head?.pointee ?? gw_profile())
        if unsafe head == nil { unsafe fillHead(of: &view.pointee, content) }
        unsafe view.pointee.size = MemoryLayout<gw_profile>.size
        unsafe view.pointee.sequence = sequence
        unsafe view.pointee.api = content.api
        unsafe view.pointee.received_ns = content.receivedAt
        unsafe view.pointee.from_ns = content.from
        unsafe view.pointee.until_ns = content.until
        unsafe view.pointee.labels = unsafe table(content.labels.labels, at: labelsAt)
        unsafe view.pointee.label_count = content.labels.labels.count
        unsafe view.pointee.format = unsafe text(content.format.rawValue)
        unsafe view.pointee.samples = unsafe samples(content.samples, in: body)
        unsafe view.pointee.sample_count = content.samples.count
        return unsafe UnsafePointer(view)
    }

    /// Writes what all profiles of a request have in common.
    private mutating func fillHead(of view: inout gw_profile, _ content: borrowing ProfileContent) {
        unsafe view.headers = unsafe table(content.headers, at: headersAt)
        unsafe view.header_count = content.headers.count
        unsafe view.tenant = unsafe text(content.tenant)
        unsafe view.path = unsafe text(content.path)
        unsafe view.query = unsafe text(content.query)
        unsafe view.content_type = unsafe text(content.contentType)
        unsafe view.content_encoding = unsafe text(content.contentEncoding)
        unsafe view.peer = unsafe text(content.peer)
    }

    private mutating func samples(
        _ samples: [ProfileContent.Sample], in body: UnsafeMutableRawPointer?
    ) -> UnsafePointer<gw_sample>? {
        guard let block = unsafe block else { return nil }
        let table = unsafe (block + samplesAt).bindMemory(to: gw_sample.self, capacity: samples.count)
        for (index, sample) in samples.enumerated() {
            let bytes = unsafe body?.advanced(by: sample.range.lowerBound).assumingMemoryBound(to: UInt8.self)
            unsafe (table + index).initialize(
                to: gw_sample(id: text(sample.id), bytes: gw_slice(bytes: bytes, count: sample.range.count)))
        }
        return unsafe UnsafePointer(table)
    }

    private mutating func table(_ labels: [Label], at offset: Int) -> UnsafePointer<gw_label>? {
        guard let block = unsafe block else { return nil }
        let table = unsafe (block + offset).bindMemory(to: gw_label.self, capacity: labels.count)
        for index in labels.indices {
            let name = unsafe text(labels[index].name)
            unsafe (table + index).initialize(to: gw_label(name: name, value: text(labels[index].value)))
        }
        return unsafe UnsafePointer(table)
    }

    private mutating func text(_ string: String) -> gw_slice {
        let utf8 = string.utf8.span
        guard let start = unsafe block?.advanced(by: textAt), !utf8.isEmpty else {
            return unsafe gw_slice(bytes: nil, count: 0)
        }
        unsafe utf8.withUnsafeBytes { unsafe UnsafeMutableRawBufferPointer(start: start, count: $0.count).copyMemory(from: $0) }
        textAt += utf8.count
        return unsafe gw_slice(bytes: start.assumingMemoryBound(to: UInt8.self), count: utf8.count)
    }
}
