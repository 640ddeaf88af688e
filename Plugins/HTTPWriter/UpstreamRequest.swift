import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// The request that sends one profile, or a batch of them, to an endpoint: path and query, headers, and body. On the thread of the
/// transfers only.
enum UpstreamRequest {
    /// As the sender sent it to `/ingest`; its parts stay with the profile, and are written from there.
    case received(Profile)
    case made(MadeRequest)

    /// Why a profile cannot be sent; permanent for this profile, unless transient.
    struct Refusal: Error {
        let reason: String
        /// True when a later attempt may succeed.
        var isTransient = false
    }

    /// The name of a header in the spelling in which it is sent, and its value.
    typealias Header = (name: String, value: String)

    /// The received headers that matter: the types of the body, and what connects a request to its trace.
    private static let kept = ["content-type", "traceparent", "tracestate", "uber-trace-id"]

    /// The message of a Push; nil for `/ingest`, whose body is the profile's only sample, as it was received.
    var message: PushMessage? { if case .made(let request) = self { request.message } else { nil } }

    /// Path and query, beginning with a slash; they follow the path of the endpoint's URL.
    var target: String {
        switch self {
        case .received(let profile): Self.target(profile, profile.query)
        case .made(let request): request.target
        }
    }

    /// The headers that are the same for every endpoint.
    var headers: [Header] {
        switch self {
        case .received(let profile): Self.headers(profile)
        case .made(let request): request.headers
        }
    }

    /// The sender's tenant; empty when there was none.
    private var tenant: String {
        switch self {
        case .received(let profile): profile.tenant
        case .made(let request): request.tenant
        }
    }

    /// Appends ``target``.
    func writeTarget(to bytes: inout [UInt8]) throws(WrittenHead.Refusal) {
        switch self {
        case .received(let profile): try profile.writeTarget(to: &bytes)
        case .made(let request):
            try WrittenHead.check(target: request.target)
            bytes.append(utf8: request.target)
        }
    }

    /// Appends ``headers`` as lines.
    func writeHeaders(to bytes: inout [UInt8]) throws(WrittenHead.Refusal) {
        switch self {
        case .received(let profile): try profile.writeHeaders(named: Self.kept, to: &bytes)
        case .made(let request): for header in request.headers { try bytes.append(header: header) }
        }
    }

    /// The headers for one endpoint beside ``headers``, including the tenant as the endpoint's config wants it.
    func headers(for endpoint: EndpointConfig) -> [Header] {
        var added: [Header] = []
        if isCompressed(for: endpoint) { added.append(("Content-Encoding", "gzip")) }
        switch endpoint.tenant {
        case .force(let forced): added.append(("X-Scope-OrgID", forced))
        case .pass: if case let tenant = tenant, !tenant.isEmpty { added.append(("X-Scope-OrgID", tenant)) }
        case .drop: break
        }
        return added
    }

    /// Whether the body for an endpoint is compressed.
    private func isCompressed(for endpoint: EndpointConfig) -> Bool {
        if endpoint.compresses, case .made(let request) = self { request.compress() } else { false }
    }

    /// Makes the request for the API that received the profile; a profile whose labels `/ingest` cannot carry may go as a Push
    /// (`unsafe_labels`).
    static func of(_ profile: Profile, _ config: WriterConfig) throws(Refusal) -> UpstreamRequest {
        if profile.api == .push { return try push(profile, UpstreamLabels(profile, config)) }
        do throws(Refusal) { return try ingest(profile, UpstreamLabels(profile, config)) } catch {
            guard config.unsafeLabels == .push, isPlainPprof(profile) else { throw error }
            return try push(profile, UpstreamLabels(profile, config))
        }
    }

    /// Makes a Push without a series, which tells whether the endpoint takes requests and stores nothing there.
    static func withoutProfile() throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) {
            return .made(MadeRequest(target: pushPath, headers: pushHeaders, tenant: "", try PushMessage(joining: [])))
        } catch {
            throw Refusal(reason: "\(error)", isTransient: true)
        }
    }

    private static let pushPath = "/push.v1.PusherService/Push"
    private static let pushHeaders: [Header] = [
        ("Content-Type", "application/proto"), ("Connect-Protocol-Version", "1"),
    ]

    /// The size in bytes of a Push message; 0 for `/ingest`.
    var messageSize: Int { message?.bytes.count ?? 0 }

    /// Joins Pushes that differ only in their series.
    static func joining(_ requests: [UpstreamRequest]) throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) {
            let message = try PushMessage(joining: requests.compactMap(\.message))
            let first = requests[0]
            return .made(MadeRequest(target: first.target, headers: first.headers, tenant: first.tenant, message))
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
    }

    /// Whether two Pushes can be joined.
    func goesWith(_ other: UpstreamRequest) -> Bool {
        let (own, others) = (headers, other.headers)
        return tenant == other.tenant && own.count == others.count && zip(own, others).allSatisfy { $0 == $1 }
    }

    /// Whether a Push can carry the profile: its body is one pprof, without multipart and without Content-Encoding.
    private static func isPlainPprof(_ profile: Profile) -> Bool {
        profile.format == "pprof" && !profile.contentType.contains("multipart/") && profile.contentEncoding.isEmpty
    }

    /// Rebuilds the request that the sender sent to `/ingest`; the query changes only if the labels do.
    private static func ingest(_ profile: Profile, _ labels: UpstreamLabels) throws(Refusal) -> UpstreamRequest {
        guard let labels = labels.ofIngest else { return .received(profile) }
        let query = replacingName(in: profile.query, by: try nameValue(labels))
        return .made(MadeRequest(target: target(profile, query), headers: headers(profile), tenant: profile.tenant))
    }

    private static func target(_ profile: Profile, _ query: String) -> String {
        query.isEmpty ? profile.path : profile.path + "?" + query
    }

    /// The headers of a request to `/ingest`; ``writeHeaders(to:)`` writes the same.
    private static func headers(_ profile: Profile) -> [Header] {
        // Without a Content-Type, libcurl would send that of a web form.
        var headers: [Header] = [("Content-Type", profile.contentType)]
        if case let encoding = profile.contentEncoding, !encoding.isEmpty { headers.append(("Content-Encoding", encoding)) }
        return headers + profile.headers(named: kept).map { ($0.name == "content-type" ? "Content-Type" : $0.name, $0.value) }
    }

    /// Makes a Connect unary call, whatever codec and compression the sender used.
    private static func push(
        _ profile: Profile, _ labels: UpstreamLabels
    ) throws(Refusal) -> UpstreamRequest {
        do throws(SystemError) {
            let samples = (0..<profile.sampleCount).map { index in
                let sample = profile.sample(index)
                return unsafe PushMessage.Sample(id: sample.id, bytes: sample.bytes)
            }
            let message = try PushMessage(labels: labels.ofPush, samples: samples)
            let traces = profile.headers(named: kept).filter { $0.name != "content-type" }
            return .made(MadeRequest(target: pushPath, headers: pushHeaders + traces, tenant: profile.tenant, message))
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
    }

    /// The body, valid as long as this request and its profile are; no profile is needed for a Push.
    func body(of profile: Profile?, for endpoint: EndpointConfig) -> UnsafeRawBufferPointer {
        if case .made(let request) = self, let body = unsafe request.body(isCompressed: endpoint.compresses) { return unsafe body }
        return unsafe profile?.sample(0).bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// `app{key=value,…}`, sorted by key.
    private static func nameValue(_ labels: [Header]) throws(Refusal) -> String {
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

/// A request that differs from the one that was received; made once for all endpoints. On the thread of the transfers only.
final class MadeRequest {
    /// Begins with a slash.
    let target: String
    let headers: [UpstreamRequest.Header]
    /// The sender's tenant; empty when there was none.
    let tenant: String
    /// The message of a Push; nil for `/ingest`.
    let message: PushMessage?
    /// The gzip-compressed message, made once for all endpoints that want it.
    private var compressed: ByteBuffer?

    init(target: String, headers: [UpstreamRequest.Header], tenant: String, _ message: PushMessage? = nil) {
        (self.target, self.headers, self.tenant, self.message) = (target, headers, tenant, message)
    }

    /// Compresses the message, unless that is done.
    ///
    /// - Returns: false when there is none, or it cannot be compressed; the plain one is sent then.
    func compress() -> Bool {
        guard let message else { return false }
        if compressed == nil { compressed = message.bytes.withBytes { unsafe Gzip.deflate($0.bytes) } }
        return compressed != nil
    }

    /// The message of a Push, valid as long as this object; nil for `/ingest`.
    func body(isCompressed: Bool) -> UnsafeRawBufferPointer? {
        if isCompressed, compress() { return unsafe UnsafeRawBufferPointer(start: compressed?.address, count: compressed?.count ?? 0) }
        return unsafe message.map { unsafe UnsafeRawBufferPointer(start: $0.bytes.address, count: $0.bytes.count) }
    }
}
