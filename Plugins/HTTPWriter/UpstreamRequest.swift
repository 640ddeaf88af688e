import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// The request that sends one profile, or a batch of them, to an endpoint: path and query, headers, and body.
struct UpstreamRequest {
    /// Why a profile cannot be sent; permanent for this profile, unless transient.
    struct Refusal: Error {
        let reason: String
        /// True when a later attempt may succeed.
        var isTransient = false
    }

    /// Path and query, beginning with a slash; they follow the path of the endpoint's URL.
    let target: String
    private(set) var headers: [(name: String, value: String)]
    /// The message of a Push; nil for `/ingest`, whose body is the profile's only sample, as it was received.
    private(set) var message: PushMessage?
    private var compressed = Compressed()
    /// True when the endpoint's next batch waits for the end of this request.
    var holdsBatches = false

    /// The sender's tenant; empty when there was none.
    private var tenant = ""

    /// Headers that connect a request to its trace.
    private static let traceHeaders = ["traceparent", "tracestate", "uber-trace-id"]

    /// The headers for one endpoint, including the tenant as the endpoint's config wants it.
    func headers(of endpoint: EndpointConfig) -> [(name: String, value: String)] {
        var own: [(name: String, value: String)] = []
        // With room for those that the transfer adds.
        own.reserveCapacity(headers.count + 5)
        own += headers
        if isCompressed(for: endpoint) { own.append(("Content-Encoding", "gzip")) }
        switch endpoint.tenant {
        case .force(let forced): own.append(("X-Scope-OrgID", forced))
        case .pass where !tenant.isEmpty: own.append(("X-Scope-OrgID", tenant))
        case .pass, .drop: break
        }
        return own
    }

    /// The gzip-compressed message, made once for all endpoints that want it.
    private final class Compressed {
        private(set) var bytes: ByteBuffer?

        func make(_ message: PushMessage) -> Bool {
            if bytes == nil { bytes = message.bytes.withBytes { unsafe Gzip.deflate($0.bytes) } }
            return bytes != nil
        }

        var view: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: bytes?.address, count: bytes?.count ?? 0) }
    }

    /// Whether the body for an endpoint is compressed; if compression fails, the plain body is sent.
    func isCompressed(for endpoint: EndpointConfig) -> Bool { endpoint.compresses && message.map(compressed.make) == true }

    /// The requests that were joined; empty for the request of one profile.
    private(set) var parts: [UpstreamRequest] = []

    /// Makes the request for the API that received the profile; a profile whose labels `/ingest` cannot carry may go as a Push
    /// (`unsafe_labels`).
    init(_ profile: Profile, _ config: WriterConfig) throws(Refusal) {
        // Each getter of a profile makes its texts anew.
        let received = profile.headers
        if profile.api == .push {
            try self.init(push: profile, UpstreamLabels(profile, config))
        } else {
            do throws(Refusal) { try self.init(ingest: profile, received, UpstreamLabels(profile, config)) } catch {
                guard config.unsafeLabels == .push, Self.isPlainPprof(profile) else { throw error }
                try self.init(push: profile, UpstreamLabels(profile, config))
            }
        }
        tenant = profile.tenant
        for header in received where Self.traceHeaders.contains(header.name) { headers.append(header) }
    }

    /// Makes a Push without a series, which tells whether the endpoint takes requests and stores nothing there.
    static func withoutProfile() throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) { return UpstreamRequest(message: try PushMessage(joining: [])) } catch {
            throw Refusal(reason: "\(error)", isTransient: true)
        }
    }

    private init(message: PushMessage) {
        (target, headers, self.message) = (Self.pushPath, Self.pushHeaders, message)
    }

    private static let pushPath = "/push.v1.PusherService/Push"
    private static let pushHeaders = [("Content-Type", "application/proto"), ("Connect-Protocol-Version", "1")]

    /// The size in bytes of a Push message; 0 for `/ingest`.
    var messageSize: Int { message?.bytes.count ?? 0 }

    /// Joins Pushes that differ only in their series.
    init(joining requests: [UpstreamRequest]) throws(Refusal) {
        self = requests[0]
        parts = requests
        do throws(SystemError) {
            message = try PushMessage(joining: requests.compactMap(\.message))
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
        compressed = Compressed()
    }

    /// Whether two Pushes can be joined.
    func goesWith(_ other: UpstreamRequest) -> Bool {
        tenant == other.tenant && headers.count == other.headers.count
            && zip(headers, other.headers).allSatisfy { $0.name == $1.name && $0.value == $1.value }
    }

    /// Whether a Push can carry the profile: its body is one pprof, without multipart and without Content-Encoding.
    private static func isPlainPprof(_ profile: Profile) -> Bool {
        profile.format == "pprof" && !profile.contentType.contains("multipart/") && profile.contentEncoding.isEmpty
    }

    /// Rebuilds the request that the sender sent to `/ingest`; the query changes only if the labels do.
    private init(ingest profile: Profile, _ received: [(name: String, value: String)], _ labels: UpstreamLabels) throws(Refusal) {
        let encoding = profile.contentEncoding
        var query = profile.query
        if let labels = labels.ofIngest { query = Self.replacingName(in: query, by: try Self.nameValue(labels)) }
        target = query.isEmpty ? profile.path : profile.path + "?" + query
        message = nil
        // Without this header, libcurl would send the content type of a web form.
        headers = [("Content-Type", profile.contentType)]
        for header in received where header.name == "content-type" { headers.append(("Content-Type", header.value)) }
        if !encoding.isEmpty { headers.append(("Content-Encoding", encoding)) }
    }

    /// Makes a Connect unary call, whatever codec and compression the sender used.
    private init(push profile: Profile, _ labels: UpstreamLabels) throws(Refusal) {
        (target, headers) = (Self.pushPath, Self.pushHeaders)
        do throws(SystemError) {
            let samples = (0..<profile.sampleCount).map { index in
                let sample = profile.sample(index)
                return unsafe PushMessage.Sample(id: sample.id, bytes: sample.bytes)
            }
            message = try PushMessage(labels: labels.ofPush, samples: samples)
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
    }

    /// The body, valid as long as this request and its profile are; no profile is needed for a Push.
    func body(of profile: Profile?, for endpoint: EndpointConfig) -> UnsafeRawBufferPointer {
        if isCompressed(for: endpoint) { return unsafe compressed.view }
        if let message { return unsafe UnsafeRawBufferPointer(start: message.bytes.address, count: message.bytes.count) }
        return unsafe profile?.sample(0).bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// `app{key=value,…}`, sorted by key.
    private static func nameValue(_ labels: [(name: String, value: String)]) throws(Refusal) -> String {
        let app = labels.first { $0.name == "__name__" }?.value ?? ""
        guard LabelGrammar.isAppName(app) else {
            throw Refusal(reason: "the application name cannot be written in name= of /ingest again")
        }
        var pairs: [String] = []
        for label in labels where label.name != "__name__" {
            if let why = LabelGrammar.objection(toValue: label.value) { throw Refusal(reason: "label \(label.name) \(why)") }
            pairs.append("\(label.name)=\(label.value)")
        }
        return "\(app){\(pairs.joined(separator: ","))}"
    }

    /// Replaces the first `name` of a query and leaves every other byte unchanged.
    private static func replacingName(in query: String, by value: String) -> String {
        var parts = query.split(separator: "&", omittingEmptySubsequences: false).map(String.init)
        guard let index = parts.firstIndex(where: { $0 == "name" || $0.hasPrefix("name=") }) else { return query }
        parts[index] = "name=" + percentEncoded(value)
        return parts.joined(separator: "&")
    }
}
