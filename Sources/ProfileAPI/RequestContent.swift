import HTTPServer
import LinuxSystem
import PluginABI
import Profiles

/// A request that cannot become a profile: a sentence for its sender, and the status, which is 400 unless given.
struct InvalidRequest: Error {
    let message: String
    let status: Int
    let headers: [(name: String, value: String)]

    init(_ message: String, status: Int = 400, headers: [(name: String, value: String)] = []) {
        (self.message, self.status, self.headers) = (message, status, headers)
    }
}

/// Validates a text for plugins, which are promised UTF-8 without NUL.
func validText(_ bytes: ArraySlice<UInt8>, of what: String) throws(InvalidRequest) -> String {
    let text: String
    do throws(UTF8.ValidationError) { text = String(copying: try UTF8Span(validating: bytes.span)) } catch {
        throw InvalidRequest("\(what): is not valid UTF-8")
    }
    if bytes.span.contains(0) { throw InvalidRequest("\(what): contains a NUL character") }
    return text
}

extension ProfileContent {
    /// Reads what both APIs take from a request's head: query, tenant, and the headers that are kept.
    init(api: gw_api, _ head: RequestHead, path: String, tenant policy: TenantPolicy, keeping kept: [String]) throws(InvalidRequest) {
        self.init(api: api, receivedAt: MonotonicTime.unixNanoseconds, path: path, format: .pprof, samples: [])
        query = try validText(head[head.query], of: "query")
        tenant = try policy.tenant(head)
        peer = head.peerText
        share = policy.isChosenBySender ? ShareKey(peer: head.peer) : ShareKey(tenant: tenant)
        var types = head.values(of: "content-type")
        if let type = types.next() { contentType = try validText(type, of: "content-type") }
        if let encoding = head.value(of: "content-encoding") {
            contentEncoding = try validText(encoding, of: "content-encoding")
        }
        // A second Content-Type is unusual but may be forwarded, so it is kept among the headers.
        var found: [Label] = []
        while let type = types.next() { found.append(Label(name: "content-type", value: try validText(type, of: "content-type"))) }
        try head.forEachField(named: kept) { name, value throws(InvalidRequest) in
            if name != "content-type" { found.append(Label(name: name, value: try validText(value, of: name))) }
        }
        headers = found
    }
}
