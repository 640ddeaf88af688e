import LinuxSystem
import PluginABI

/// A request that cannot become a profile: the sentence that its sender gets with status 400.
struct InvalidRequest: Error {
    let message: String
    init(_ message: String) { self.message = message }
}

/// Text as plugins are promised it: valid UTF-8 without NUL.
func validText(_ bytes: ArraySlice<UInt8>, of what: String) throws(InvalidRequest) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw InvalidRequest("\(what): is not valid UTF-8") }
    guard !bytes.contains(0) else { throw InvalidRequest("\(what): contains a NUL character") }
    return text
}

extension ProfileContent {
    /// What both APIs take from a request's head: path, query, tenant, and the headers that are kept.
    init(api: gw_api, _ head: RequestHead, keeping kept: [String]) throws(InvalidRequest) {
        self.init(
            api: api, receivedAt: MonotonicTime.unixNanoseconds, path: try validText(head[head.path], of: "path"),
            format: .pprof, samples: [])
        query = try validText(head[head.query], of: "query")
        tenant = try Self.tenant(head)
        var types = Array(head.values(of: "content-type"))
        if !types.isEmpty { contentType = try validText(types.removeFirst(), of: "content-type") }
        if let encoding = head.value(of: "content-encoding") {
            contentEncoding = try validText(encoding, of: "content-encoding")
        }
        // A second Content-Type is odd but legal to forward, so it travels beside the first one.
        for type in types { headers.append(Label(name: "content-type", value: try validText(type, of: "content-type"))) }
        for name in kept where name != "content-type" {
            for value in head.values(of: name) { headers.append(Label(name: name, value: try validText(value, of: name))) }
        }
    }

    /// `X-Scope-OrgID`, held to what Pyroscope takes for a tenant.
    private static func tenant(_ head: RequestHead) throws(InvalidRequest) -> String {
        guard let value = head.value(of: "x-scope-orgid") else { return "" }
        guard value.count <= 150 else { throw InvalidRequest("X-Scope-OrgID: is longer than 150 bytes") }
        let text = String(decoding: value, as: UTF8.self)
        guard value.allSatisfy({ (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "!_.*'()-".utf8.contains($0) }) else {
            throw InvalidRequest("X-Scope-OrgID: \(quotedForPeople(text)) has a character other than A-Z a-z 0-9 ! _ . * ' ( ) -")
        }
        return text
    }
}
