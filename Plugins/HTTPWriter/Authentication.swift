import ConfigJSON
import LinuxSystem
import PushWire

/// How the writer authenticates to an endpoint; at most one way each.
enum Authentication: Sendable {
    case none
    /// RFC 7617; without a source the password is empty.
    case basic(user: String, password: ConfigSource?)
    /// `Authorization: scheme credentials`, RFC 9110 §11.6.2.
    case header(scheme: String, credentials: ConfigSource)
    /// A token from an OAuth 2.0 token server, RFC 6749 §4.4.
    case oauth2(OAuth2Config)
}

extension Authentication {
    /// Reads `basic_auth`, `authorization`, `bearer_token`, `bearer_token_file` and `oauth2` of an endpoint.
    init(_ endpoint: ConfigObject, headers: [(name: String, value: String)]) {
        var found: [(name: String, way: Authentication)] = []
        if let basic = endpoint.object("basic_auth") {
            let user = basic.string("username") ?? ""
            if user.isEmpty { basic.refuse("username", "is required") }
            if user.contains(":") { basic.refuse("username", "must not hold a colon, which ends it") }
            if user.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) { basic.refuse("username", "holds a control character") }
            found.append(("basic_auth", .basic(user: user, password: basic.secret(file: "password_file", text: "password"))))
            basic.refuseUnknown()
        }
        if let object = endpoint.object("authorization") {
            let scheme = object.string("type") ?? "Bearer"
            if scheme.isEmpty || !scheme.utf8.allSatisfy({ (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "-._~+".utf8.contains($0) }) {
                object.refuse("type", "is no authentication scheme, which has letters, digits and -._~+ only")
            }
            if scheme.lowercased() == "basic" { object.refuse("type", "must not be \"Basic\": that is what basic_auth is for") }
            if let credentials = object.secret(file: "credentials_file", text: "credentials") {
                found.append(("authorization", .header(scheme: scheme, credentials: credentials)))
            } else if object.value("credentials") == nil, object.value("credentials_file") == nil {
                object.refuse("credentials", "is required, or credentials_file")
            }
            object.refuseUnknown()
        }
        if let token = endpoint.secret(file: "bearer_token_file", text: "bearer_token") {
            found.append(
                (
                    endpoint.value("bearer_token") == nil ? "bearer_token_file" : "bearer_token",
                    .header(scheme: "Bearer", credentials: token)
                ))
        }
        if let object = endpoint.object("oauth2") { found.append(("oauth2", .oauth2(OAuth2Config(object)))) }
        if let first = found.first, headers.contains(where: { $0.name.lowercased() == "authorization" }) {
            endpoint.refuse(first.name, "is given beside an Authorization header; one of them is meant")
        }
        for other in found.dropFirst() { endpoint.refuse(other.name, "is given beside \(found[0].name); one of them is meant") }
        self = found.first?.way ?? .none
    }
}

/// The value of an endpoint's Authorization header, read again when its file changes; on the thread of the transfers only.
final class Credentials {
    private let authentication: Authentication
    private let secrets: EndpointSecrets
    private var stamp: FileStamp?
    private var value: String?

    init(_ authentication: Authentication, _ secrets: EndpointSecrets) { (self.authentication, self.secrets) = (authentication, secrets) }

    /// - Returns: the header's value now; nil when there is none to send.
    func current() throws(Problem) -> String? {
        switch authentication {
        case .none, .oauth2: return nil
        case .basic(let user, let source):
            return try read(source) { secret in "Basic " + base64(Array("\(user):\(secret)".utf8)) }
        case .header(let scheme, let source): return try read(source) { "\(scheme) \($0)" }
        }
    }

    private func read(_ source: ConfigSource?, _ write: (String) -> String) throws(Problem) -> String {
        let now = source?.stamp
        if let value, now == stamp { return value }
        let secret = try source?.secret() ?? ""
        secrets.add(secret)
        let written = write(secret)
        (value, stamp) = (written, now)
        return written
    }
}
