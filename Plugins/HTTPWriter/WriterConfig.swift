import ConfigJSON
import LinuxSystem

/// What `config` of a `pyroscope.write` receiver says; names and defaults are Alloy's.
struct WriterConfig: Sendable {
    /// One destination.
    struct Endpoint: Sendable {
        /// Where it is.
        var url = ""
        /// The path of the URL, without a slash at the end; goes before that of each request.
        var path = ""
        /// What metrics, health and log call it; its URL when it has no name.
        var name = ""
        var headers: [(name: String, value: String)] = []
        /// The time one attempt may take.
        var remoteTimeout = Duration.seconds(10)
        /// For libcurl, to whom 0 is no limit.
        var timeoutMilliseconds: Int { max(1, Int(remoteTimeout.inNanoseconds / 1_000_000)) }
    }

    /// As many as `progress` has bits.
    static let maximumEndpoints = 64

    var endpoints: [Endpoint] = []
    /// Added to each profile's labels; where both have a name, the external one wins.
    var externalLabels: [(name: String, value: String)] = []

    init(_ object: ConfigObject) {
        let entries = object.objects("endpoint") ?? []
        if object.value("endpoint") == nil || object.value("endpoint")?.text == "[]" {
            object.refuse("endpoint", "must hold at least one endpoint")
        }
        if entries.count > Self.maximumEndpoints {
            object.refuse("endpoint", "must hold at most \(Self.maximumEndpoints) endpoints, holds \(entries.count)")
        }
        endpoints = entries.map(Endpoint.init)
        externalLabels = object.stringMembers("external_labels")
        for label in externalLabels {
            if let why = LabelGrammar.objection(toName: label.name) ?? LabelGrammar.objection(toValue: label.value) {
                object.problems.add(
                    Problems.path(object.path("external_labels"), label.name), why,
                    at: object.value("external_labels")?.position)
            }
        }
    }
}

extension WriterConfig.Endpoint {
    init(_ object: ConfigObject) {
        if object.value("url") == nil { object.refuse("url", "is required: the server to write to") }
        if let text = object.string("url") {
            url = text
            switch UpstreamURL.parse(text) {
            case .success(let parsed): path = parsed
            case .failure(let objection): object.refuse("url", objection.reason)
            }
        }
        name = object.string("name") ?? url
        headers = object.stringMembers("headers")
        for header in headers {
            if let why = Self.objection(to: header) {
                object.problems.add(Problems.path(object.path("headers"), header.name), why, at: object.value("headers")?.position)
            }
        }
        remoteTimeout = object.duration("remote_timeout", default: remoteTimeout)
        for name in ["min_backoff_period", "max_backoff_period", "max_backoff_retries"] where object.value(name) != nil {
            object.refuse(name, "belongs to the receiver's retry block, not to an endpoint")
        }
        object.refuseUnknown()
    }

    private static func objection(to header: (name: String, value: String)) -> String? {
        let isToken =
            !header.name.isEmpty
            && header.name.utf8.allSatisfy {
                (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "!#$%&'*+-.^_`|~".utf8.contains($0)
            }
        if !isToken { return "is no header name" }
        let framing = ["content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "keep-alive"]
        if framing.contains(header.name.lowercased()) { return "is set by the HTTP client itself" }
        return header.value.utf8.contains { $0 < 0x20 || $0 == 0x7F } ? "holds a control character" : nil
    }
}

/// What the `name=` of `/ingest` can carry: it has no quoting, so some texts cannot be written at all.
enum LabelGrammar {
    /// Why a label name cannot be written; nil when it can.
    static func objection(toName name: String) -> String? {
        if name.hasPrefix("__") { return "is a reserved name" }
        let isPlain = !name.isEmpty && name.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || $0 == 95 || $0 == 46 }
        return isPlain ? nil : "is no label name: only A-Z a-z 0-9 _ . are allowed"
    }

    /// Why a label value cannot be written; nil when it can.
    static func objection(toValue value: String) -> String? {
        for scalar in value.unicodeScalars {
            switch scalar {
            case ",", "}": return "has the value \(JSONValue.quoted(value)): \"\(scalar)\" cannot be written in name= of /ingest"
            case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}":
                return "has the value \(JSONValue.quoted(value)): a control character cannot be written in name= of /ingest"
            default: break
            }
        }
        if value.first?.isWhitespace == true || value.last?.isWhitespace == true {
            return "has the value \(JSONValue.quoted(value)): white space at an end is lost in name= of /ingest"
        }
        return nil
    }

    static func isAppName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "_./-".utf8.contains($0) }
    }
}
