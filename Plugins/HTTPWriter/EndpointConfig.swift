import ConfigJSON
import LinuxSystem
import PushWire

/// One destination; names and defaults are Alloy's.
struct EndpointConfig: Sendable {
    /// The base URL.
    var url = ""
    /// The path of the URL without a trailing slash; it is put before the path of each request.
    var path = ""
    /// The name in metrics, health and log; by default the URL.
    var name = ""
    /// Headers sent with every request, in this order; a name may occur more than once.
    var headers: [(name: String, value: String)] = []
    /// The time one attempt may take.
    var remoteTimeout = Duration.seconds(10)
    /// How long a connection is used; zero means without limit.
    var maximumConnectionAge = Duration.seconds(300)
    var authentication = Authentication.none
    var connection = ConnectionOptions()
    var client = Client.auto
    var tenant = TenantRule.pass
    var followsRedirects = true
    var retriesOn429 = true
    var retriesOn422 = false
    /// Further HTTP statuses that are retried.
    var retriesOn: Set<Int> = []
    /// Whether the bodies of Push requests are compressed.
    var compresses = false

    /// How the tenant of a profile is sent on.
    enum TenantRule: Equatable, Sendable {
        case pass
        case force(String)
        case drop
    }

    /// The HTTP client for requests to the endpoint.
    enum Client: String, CaseIterable, Sendable {
        /// The writer's own client where it can go, which is plain HTTP without a proxy, and libcurl for everything else.
        case auto
        case libcurl
    }

    private enum Compression: String, CaseIterable { case none, gzip }

    private var sendsCredentialsInTheClear: Bool {
        // An OAuth 2.0 token is sent to this URL too.
        let isAuthenticated = if case .none = authentication { false } else { true }
        return url.lowercased().hasPrefix("http://") && (isAuthenticated || headers.contains { EndpointSecrets.saysSecret($0.name) })
    }

    /// Where the writer's own client connects to; nil when only libcurl may go there: for https, a proxy, a server name, or an address
    /// with a zone.
    var plainPlace: (host: String, port: UInt16)? {
        guard client == .auto, connection.proxy == .none, connection.serverName == nil, let place = UpstreamURL.place(of: url),
            place.scheme == "http", let host = UpstreamURL.host(of: url), let port = UInt16(place.port), !host.isEmpty,
            !url.dropFirst(7).prefix(while: { $0 != "/" }).contains("%")
        else { return nil }
        return (host, port)
    }

    private var needsLibcurl: Bool {
        if case .oauth2 = authentication { return true }
        return plainPlace == nil
    }

    /// For libcurl, where 0 would mean no limit.
    var timeoutMilliseconds: Int { max(1, Int(remoteTimeout.inNanoseconds / 1_000_000)) }
}

extension EndpointConfig {
    init(_ object: ConfigObject) {
        var isURLValid = false
        if object.value("url") == nil { object.refuse("url", "is required: the server to write to") }
        if let text = object.string("url") {
            url = text
            switch UpstreamURL.parse(text) {
            case .success(let parsed): (path, isURLValid) = (parsed, true)
            case .failure(let objection): object.refuse("url", objection.reason)
            }
        }
        name = object.string("name") ?? url
        headers = object.checkedHeaders("headers") + object.checkedHeaders("http_headers")
        remoteTimeout = object.duration("remote_timeout", default: remoteTimeout)
        maximumConnectionAge = object.duration("max_connection_age", default: maximumConnectionAge, zeroAllowed: true)
        authentication = Authentication(object, headers: headers)
        if sendsCredentialsInTheClear { object.warn("url", "is http://, so the credentials of the endpoint travel in the clear") }
        connection = ConnectionOptions(object)
        client = object.choice("client", default: client)
        tenant = TenantRule(object)
        followsRedirects = object.bool("follow_redirects", default: followsRedirects)
        retriesOn429 = object.bool("retry_on_http_429", default: retriesOn429)
        retriesOn422 = object.bool("retry_on_422", default: retriesOn422)
        retriesOn = object.statuses("retry_on")
        if !retriesOn429, retriesOn.contains(429) { object.refuse("retry_on", "holds 429, which retry_on_http_429 says is not retried") }
        compresses = object.choice("compression", default: Compression.none) == .gzip
        for name in ["min_backoff_period", "max_backoff_period", "max_backoff_retries"] where object.value(name) != nil {
            object.refuse(name, "belongs to the receiver's retry block, not to an endpoint")
        }
        object.refuseUnknown()
        // With a proxy_url, that was refused already.
        if isURLValid, object.value("proxy_url") == nil, needsLibcurl, !Libcurl.isUsable { object.refuse("url", Libcurl.missing) }
    }
}

extension EndpointConfig.TenantRule {
    /// Reads an endpoint's `tenant`.
    init(_ endpoint: ConfigObject) {
        self = .pass
        guard let object = endpoint.object("tenant") else { return }
        let forced = object.string("force")
        let isDropped = object.bool("drop", default: false)
        object.refuseUnknown()
        if forced != nil, isDropped { object.refuse("drop", "leaves nothing to force") }
        if let forced, forced.isEmpty || !forced.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) {
            object.refuse("force", "\(JSONValue.quoted(forced)) is no tenant")
        }
        if let forced { self = .force(forced) } else if isDropped { self = .drop }
    }
}

extension ConfigObject {
    /// An array of HTTP error statuses, 400 to 599.
    func statuses(_ name: String) -> Set<Int> {
        guard let value = value(name) else { return [] }
        guard case .array(let elements) = value.content else {
            refuse(name, "must be an array of statuses, is \(value.kind)")
            return []
        }
        var statuses: Set<Int> = []
        for (index, element) in elements.enumerated() {
            if case .number(let digits) = element.content, let status = Int(digits), 400...599 ~= status {
                statuses.insert(status)
            } else {
                let found = element.text.isEmpty ? element.kind : element.text
                problems.add("\(path(name))[\(index)]", "must be a status, 400 to 599, is \(found)", at: element.position)
            }
        }
        return statuses
    }

    /// The headers of a member; those that cannot be sent are reported as problems.
    func checkedHeaders(_ name: String) -> [(name: String, value: String)] {
        let headers = headers(name)
        for header in headers {
            if let why = Self.objection(to: header) {
                problems.add(Problems.path(path(name), header.name), why, at: value(name)?.position)
            }
        }
        return headers
    }

    private static func objection(to header: (name: String, value: String)) -> String? {
        if !WrittenHead.isToken(header.name) { return "is no header name" }
        let framing = ["content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "keep-alive"]
        if framing.contains(header.name.lowercased()) { return "is set by the HTTP client itself" }
        return header.value.utf8.contains { $0 < 0x20 || $0 == 0x7F } ? "holds a control character" : nil
    }

    /// An object of header names, each with one value or an array of them.
    func headers(_ name: String) -> [(name: String, value: String)] {
        members(of: name).flatMap { member -> [(name: String, value: String)] in
            switch member.value.content {
            case .string(let text): return [(member.name, text)]
            case .array(let values):
                let texts = values.compactMap { if case .string(let text) = $0.content { text } else { nil } }
                if texts.count == values.count { return texts.map { (member.name, $0) } }
            default: break
            }
            problems.add(Problems.path(path(name), member.name), "must be a string or an array of strings", at: member.value.position)
            return []
        }
    }
}
