public import PluginABI

/// One received profile, lent by the gateway.
///
/// Valid until its delivery is finished. Each getter of a text creates a new `String`.
@safe public struct Profile: Sendable {
    /// The C view; lives as long as the profile.
    public nonisolated(unsafe) let view: UnsafePointer<gw_profile>

    /// Wraps the profile at `view`, which must live as long as this value and its samples are used.
    public init(view: UnsafePointer<gw_profile>) { unsafe self.view = unsafe view }

    /// Unique and increasing; the same in every attempt.
    public var sequence: UInt64 { unsafe view.pointee.sequence }
    /// The API that received it: `/ingest` or Push.
    public var api: gw_api { unsafe view.pointee.api }
    /// When the gateway received it, in Unix nanoseconds.
    public var receivedAt: Int64 { unsafe view.pointee.received_ns }
    /// The start of the time span that the sender stated, in Unix nanoseconds; 0 when it stated none.
    public var from: Int64 { unsafe view.pointee.from_ns }
    /// The end of the time span that the sender stated, in Unix nanoseconds; 0 when it stated none.
    public var until: Int64 { unsafe view.pointee.until_ns }
    /// The sender's `X-Scope-OrgID`; empty when there was none.
    public var tenant: String { unsafe view.pointee.tenant.text }
    /// The request's path, still percent-encoded.
    public var path: String { unsafe view.pointee.path.text }
    /// The request's query string without the `?`, still percent-encoded.
    public var query: String { unsafe view.pointee.query.text }
    /// `pprof`, `jfr`, `folded`, `lines`, `trie`, `tree` or `speedscope`.
    public var format: String { unsafe view.pointee.format.text }
    /// The request's own Content-Type; empty when there was none.
    public var contentType: String { unsafe view.pointee.content_type.text }
    /// The request's own Content-Encoding; empty when there was none.
    public var contentEncoding: String { unsafe view.pointee.content_encoding.text }
    /// Sorted by name; names are unique.
    public var labels: [(name: String, value: String)] {
        unsafe Self.texts(view.pointee.labels, view.pointee.label_count)
    }
    /// The other request headers that the listener keeps, names in lower case.
    public var headers: [(name: String, value: String)] {
        unsafe Self.texts(view.pointee.headers, view.pointee.header_count)
    }

    /// The request headers with one of these names, in lower case; cheaper than all of ``headers``.
    public func headers(named names: [String]) -> [(name: String, value: String)] {
        var found: [(name: String, value: String)] = []
        unsafe UnsafeBufferPointer(start: view.pointee.headers, count: view.pointee.header_count).forEach { header in
            if names.contains(where: { unsafe header.name.isEqual(to: $0) }) {
                unsafe found.append((header.name.text, header.value.text))
            }
        }
        return found
    }

    /// The sender's IP address, `192.0.2.7` or `2001:db8::7`; empty when it is not known, as from a gateway before 0.3.0.
    public var peer: String {
        unsafe view.pointee.size > Int(GW_V1_0_PROFILE) ? view.pointee.peer.text : ""
    }

    /// The value of a label, or nil.
    public func label(_ name: String) -> String? { labels.first { $0.name == name }?.value }

    /// The number of payloads: exactly one from `/ingest`, one for each raw sample of a series from Push.
    public var sampleCount: Int { unsafe view.pointee.sample_count }

    /// The bytes of all payloads together.
    public var byteCount: Int { (0..<sampleCount).reduce(0) { unsafe $0 + sample($1).bytes.count } }

    /// One payload; its bytes are borrowed and live as long as the profile.
    @safe public struct Sample: Sendable {
        /// The sample's id on Push, else empty.
        public let id: String
        /// The bytes as received, borrowed from the profile.
        public nonisolated(unsafe) let bytes: UnsafeRawBufferPointer
    }

    /// The payload at `index`, which must be below ``sampleCount``.
    public func sample(_ index: Int) -> Sample {
        precondition(index < sampleCount)
        guard let samples = unsafe view.pointee.samples else { return unsafe Sample(id: "", bytes: .init(start: nil, count: 0)) }
        let sample = unsafe samples[index]
        return unsafe Sample(
            id: sample.id.text, bytes: UnsafeRawBufferPointer(start: sample.bytes.bytes, count: sample.bytes.count))
    }

    private static func texts(_ labels: UnsafePointer<gw_label>?, _ count: Int) -> [(name: String, value: String)] {
        unsafe UnsafeBufferPointer(start: labels, count: count).map { unsafe ($0.name.text, $0.value.text) }
    }
}
