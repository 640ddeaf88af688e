import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// The request that sends one profile, or a batch of them, to an endpoint: path and query, headers, and body. On the thread of the
/// transfers only.
final class UpstreamRequest {
    /// Why a profile cannot be sent; permanent for this profile, unless transient.
    struct Refusal: Error {
        let reason: String
        /// True when a later attempt may succeed.
        var isTransient = false
    }

    /// Path and query, beginning with a slash; they follow the path of the endpoint's URL.
    let target: String
    private let headers: [(name: String, value: String)]
    /// The message of a Push; nil for `/ingest`, whose body is the profile's only sample, as it was received.
    let message: PushMessage?
    /// The gzip-compressed message, made once for all endpoints that want it.
    private var compressed: ByteBuffer?
    /// The sender's tenant; empty when there was none.
    private let tenant: String
    /// The requests that were joined; empty for the request of one profile.
    let parts: [UpstreamRequest]

    /// The received headers that matter: the types of the body, and what connects a request to its trace.
    private static let kept = ["content-type", "traceparent", "tracestate", "uber-trace-id"]

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

    /// Whether the body for an endpoint is compressed; if compression fails, the plain body is sent.
    func isCompressed(for endpoint: EndpointConfig) -> Bool {
        guard endpoint.compresses, let message else { return false }
        if compressed == nil { compressed = message.bytes.withBytes { unsafe Gzip.deflate($0.bytes) } }
        return compressed != nil
    }

    private init(
        _ target: String, _ headers: [(name: String, value: String)], tenant: String, _ message: PushMessage? = nil,
        parts: [UpstreamRequest] = []
    ) {
        (self.target, self.headers, self.tenant, self.message, self.parts) = (target, headers, tenant, message, parts)
    }

    /// Makes the request for the API that received the profile; a profile whose labels `/ingest` cannot carry may go as a Push
    /// (`unsafe_labels`).
    static func of(_ profile: Profile, _ config: WriterConfig) throws(Refusal) -> UpstreamRequest {
        let received = profile.headers(named: kept)
        if profile.api == .push { return try push(profile, received, UpstreamLabels(profile, config)) }
        do throws(Refusal) { return try ingest(profile, received, UpstreamLabels(profile, config)) } catch {
            guard config.unsafeLabels == .push, isPlainPprof(profile) else { throw error }
            return try push(profile, received, UpstreamLabels(profile, config))
        }
    }

    /// Makes a Push without a series, which tells whether the endpoint takes requests and stores nothing there.
    static func withoutProfile() throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) { return UpstreamRequest(pushPath, pushHeaders, tenant: "", try PushMessage(joining: [])) } catch {
            throw Refusal(reason: "\(error)", isTransient: true)
        }
    }

    private static let pushPath = "/push.v1.PusherService/Push"
    private static let pushHeaders: [(name: String, value: String)] = [
        ("Content-Type", "application/proto"), ("Connect-Protocol-Version", "1"),
    ]

    /// The size in bytes of a Push message; 0 for `/ingest`.
    var messageSize: Int { message?.bytes.count ?? 0 }

    /// Joins Pushes that differ only in their series.
    static func joining(_ requests: [UpstreamRequest]) throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) {
            let message = try PushMessage(joining: requests.compactMap(\.message))
            return UpstreamRequest(requests[0].target, requests[0].headers, tenant: requests[0].tenant, message, parts: requests)
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
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
    private static func ingest(
        _ profile: Profile, _ received: [(name: String, value: String)], _ labels: UpstreamLabels
    ) throws(Refusal) -> UpstreamRequest {
        var query = profile.query
        if let labels = labels.ofIngest { query = replacingName(in: query, by: try nameValue(labels)) }
        // Without a Content-Type, libcurl would send that of a web form.
        var headers: [(name: String, value: String)] = []
        headers.reserveCapacity(received.count + 2)
        headers.append(("Content-Type", profile.contentType))
        if case let encoding = profile.contentEncoding, !encoding.isEmpty { headers.append(("Content-Encoding", encoding)) }
        for header in received { headers.append((header.name == "content-type" ? "Content-Type" : header.name, header.value)) }
        return UpstreamRequest(query.isEmpty ? profile.path : profile.path + "?" + query, headers, tenant: profile.tenant)
    }

    /// Makes a Connect unary call, whatever codec and compression the sender used.
    private static func push(
        _ profile: Profile, _ received: [(name: String, value: String)], _ labels: UpstreamLabels
    ) throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) {
            let samples = (0..<profile.sampleCount).map { index in
                let sample = profile.sample(index)
                return unsafe PushMessage.Sample(id: sample.id, bytes: sample.bytes)
            }
            let message = try PushMessage(labels: labels.ofPush, samples: samples)
            let traces = received.filter { $0.name != "content-type" }
            return UpstreamRequest(pushPath, pushHeaders + traces, tenant: profile.tenant, message)
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
    }

    /// The body, valid as long as this request and its profile are; no profile is needed for a Push.
    func body(of profile: Profile?, for endpoint: EndpointConfig) -> UnsafeRawBufferPointer {
        if isCompressed(for: endpoint) { return unsafe UnsafeRawBufferPointer(start: compressed?.address, count: compressed?.count ?? 0) }
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
