import LinuxSystem
import PluginABI
import PluginKit
import PushWire

/// One profile as a request to a destination: the path and query, the headers, and the body as it was received.
struct UpstreamRequest {
    /// What cannot be sent on, and why: permanent for this profile.
    struct Refusal: Error {
        let reason: String
        /// True when a later attempt may succeed.
        var isTransient = false
    }

    /// Path and query, beginning with a slash, to be put behind the endpoint's URL.
    let target: String
    private(set) var headers: [(name: String, value: String)]
    /// The message of a Push; without one the body is the profile's only sample, as it was received.
    private(set) var message: PushMessage?
    private var compressed = Compressed()
    /// True when others wait for its end to go out together.
    var holdsBatches = false

    /// The sender's tenant; empty when there was none.
    private var tenant = ""

    /// What ties a request to the trace that it belongs to.
    private static let traceHeaders = ["traceparent", "tracestate", "uber-trace-id"]

    /// The headers for one endpoint, which may have a word about the tenant.
    func headers(of endpoint: EndpointConfig) -> [(name: String, value: String)] {
        let own = isCompressed(for: endpoint) ? headers + [("Content-Encoding", "gzip")] : headers
        switch endpoint.tenant {
        case .force(let forced): return own + [("X-Scope-OrgID", forced)]
        case .pass where !tenant.isEmpty: return own + [("X-Scope-OrgID", tenant)]
        case .pass, .drop: return own
        }
    }

    /// A message as it goes out to those who want it compressed; made once for all of them.
    private final class Compressed {
        private(set) var bytes: ByteBuffer?

        func make(_ message: PushMessage) -> Bool {
            if bytes == nil { bytes = message.bytes.withBytes { unsafe Gzip.deflate($0.bytes) } }
            return bytes != nil
        }

        var view: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: bytes?.address, count: bytes?.count ?? 0) }
    }

    /// Whether the body for an endpoint is compressed; where that cannot be had, it is as good as it is.
    func isCompressed(for endpoint: EndpointConfig) -> Bool { endpoint.compresses && message.map(compressed.make) == true }

    /// What it was put together from; empty for the request of one profile.
    private(set) var parts: [UpstreamRequest] = []

    /// Makes the request for a profile, by the API it came in by, where its labels can be written there.
    init(_ profile: Profile, _ config: WriterConfig) throws(Refusal) {
        if profile.api == .push {
            try self.init(push: profile, config.externalLabels)
        } else {
            do throws(Refusal) { try self.init(ingest: profile, config.externalLabels) } catch {
                guard config.unsafeLabels == .push, Self.isPlainPprof(profile) else { throw error }
                try self.init(push: profile, config.externalLabels)
            }
        }
        tenant = profile.tenant
        headers += profile.headers.filter { Self.traceHeaders.contains($0.name) }
    }

    /// How many bytes the message of a Push has.
    var messageSize: Int { message?.bytes.count ?? 0 }

    /// Puts Pushes together that differ in their series only.
    init(joining requests: [UpstreamRequest]) throws(Refusal) {
        self = requests[0]
        parts = requests
        do throws(SystemError) {
            message = try PushMessage(joining: requests.compactMap(\.message))
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
        compressed = Compressed()
    }

    /// Whether two Pushes may go out as one.
    func goesWith(_ other: UpstreamRequest) -> Bool {
        tenant == other.tenant && headers.count == other.headers.count
            && zip(headers, other.headers).allSatisfy { $0.name == $1.name && $0.value == $1.value }
    }

    /// What a Push can carry: a body that is one pprof, compressed or not.
    private static func isPlainPprof(_ profile: Profile) -> Bool {
        profile.format == "pprof" && !profile.contentType.contains("multipart/") && profile.contentEncoding.isEmpty
    }

    /// Rebuilds what the sender sent to `/ingest`; its query changes only when an external label changes a label.
    private init(ingest profile: Profile, _ external: [(name: String, value: String)]) throws(Refusal) {
        let query = try Self.query(profile, external)
        target = query.isEmpty ? profile.path : "\(profile.path)?\(query)"
        message = nil
        // Without one of ours, libcurl would name the type of a web form.
        headers = [("Content-Type", profile.contentType)]
        for header in profile.headers where header.name == "content-type" { headers.append(("Content-Type", header.value)) }
        if !profile.contentEncoding.isEmpty { headers.append(("Content-Encoding", profile.contentEncoding)) }
    }

    /// A Connect unary call, whatever codec and compression the sender chose.
    private init(push profile: Profile, _ external: [(name: String, value: String)]) throws(Refusal) {
        target = "/push.v1.PusherService/Push"
        headers = [("Content-Type", "application/proto"), ("Connect-Protocol-Version", "1")]
        do throws(SystemError) {
            let samples = (0..<profile.sampleCount).map { index in
                let sample = profile.sample(index)
                return unsafe PushMessage.Sample(id: sample.id, bytes: sample.bytes)
            }
            message = try PushMessage(labels: Self.pushLabels(profile, external), samples: samples)
        } catch { throw Refusal(reason: "\(error)", isTransient: true) }
    }

    /// What a Pyroscope server may be sent: Alloy's choice drops reserved labels but the profile's name and whether its
    /// values are deltas; external labels win.
    private static func pushLabels(
        _ profile: Profile, _ external: [(name: String, value: String)]
    ) -> [(name: String, value: String)] {
        let kept = profile.labels.filter { label in
            (!label.name.hasPrefix("__") || label.name == "__name__" || label.name == "__delta__")
                && !external.contains { $0.name == label.name }
        }
        return (kept + external).sorted { $0.name < $1.name }
    }

    /// The bytes to send, valid as long as this request and its profile are.
    func body(of profile: Profile, for endpoint: EndpointConfig) -> UnsafeRawBufferPointer {
        if isCompressed(for: endpoint) { return unsafe compressed.view }
        if let message { return unsafe UnsafeRawBufferPointer(start: message.bytes.address, count: message.bytes.count) }
        return unsafe profile.sample(0).bytes
    }

    private static func query(_ profile: Profile, _ external: [(name: String, value: String)]) throws(Refusal) -> String {
        if external.isEmpty { return profile.query }
        let own = profile.labels
        let isChanged = external.contains { label in !own.contains { $0 == label } }
        guard isChanged else { return profile.query }
        let added = external.map(\.name)
        let labels = (own.filter { !added.contains($0.name) } + external).sorted { $0.name < $1.name }
        return replacingName(in: profile.query, by: try nameValue(labels))
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

    /// Changes the first `name` of a query and leaves every other byte as it was.
    private static func replacingName(in query: String, by value: String) -> String {
        var parts = query.split(separator: "&", omittingEmptySubsequences: false).map(String.init)
        guard let index = parts.firstIndex(where: { $0 == "name" || $0.hasPrefix("name=") }) else { return query }
        parts[index] = "name=" + percentEncoded(value)
        return parts.joined(separator: "&")
    }
}
