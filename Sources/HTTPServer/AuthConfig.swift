package import ConfigJSON

/// A listener's `auth` block: a client that satisfies any one of its members may send.
package struct AuthConfig: Equatable, Sendable {
    /// Lines of `user:hash`, each hash in the form of crypt(5).
    package var users: ConfigSource?
    /// Tokens, one a line (RFC 6750).
    package var tokens: ConfigSource?
    /// Whether a client certificate that TLS has verified is enough.
    var clientCertificate = false
}

extension AuthConfig {
    /// - Parameter tls: the listener's TLS, which must verify client certificates.
    package init(_ object: ConfigObject, tls: TLSConfig?) {
        if let basic = object.object("basic") {
            users = basic.file("users_file")
            basic.warnOfMode(users)
            if users == nil { basic.refuse("users_file", "is required: a file with a line user:hash for each user") }
            basic.refuseUnknown()
        }
        tokens = object.file("bearer_tokens_file")
        object.warnOfMode(tokens)
        clientCertificate = object.bool("client_certificate", default: clientCertificate)
        if clientCertificate, tls?.clientAuth.verifies != true {
            object.refuse("client_certificate", "needs tls with a client_auth_type that verifies")
        }
        object.refuseUnknown()
        if object.value("basic") == nil, tokens == nil, !clientCertificate {
            object.problems.add(
                object.path, "must name basic, bearer_tokens_file or client_certificate: nobody could send", at: object.position)
        }
    }
}
