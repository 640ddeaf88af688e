package import ConfigJSON

/// A listener's `tls` block; names are Alloy's.
package struct TLSConfig: Equatable, Sendable {
    /// The server's certificate, followed by the intermediate certificates up to its authority.
    package let certificate: ConfigSource
    let key: ConfigSource
    /// The authorities that may sign clients' certificates.
    var clientAuthorities: ConfigSource?
    /// Revocation lists of these authorities.
    var revocationLists: ConfigSource?
    var clientAuth = ClientAuth.none
    var minimumVersion = Version.tls12

    /// The requirements for clients; the names are Go's, as in Alloy.
    enum ClientAuth: String, CaseIterable, Sendable {
        case none = "NoClientCert"
        case request = "RequestClientCert"
        case requireAny = "RequireAnyClientCert"
        case verifyIfGiven = "VerifyClientCertIfGiven"
        case requireAndVerify = "RequireAndVerifyClientCert"

        var verifies: Bool { self == .verifyIfGiven || self == .requireAndVerify }
        var requires: Bool { self == .requireAny || self == .requireAndVerify }
    }

    enum Version: String, CaseIterable, Sendable {
        case tls12 = "TLS12"
        case tls13 = "TLS13"
    }
}

extension TLSConfig {
    /// Reads a `tls` block; nil when the certificate or the key is missing, which is noted among the problems.
    package init?(_ object: ConfigObject) {
        let certificate = object.source(file: "cert_file", text: "cert_pem")
        let key = object.source(file: "key_file", text: "key_pem")
        object.warnOfMode(key)
        clientAuthorities = object.source(file: "client_ca_file", text: "client_ca_pem")
        revocationLists = object.source(file: "client_crl_file", text: "client_crl_pem")
        clientAuth = object.choice("client_auth_type", default: clientAuth)
        minimumVersion = object.choice("min_version", default: minimumVersion)
        if clientAuth.verifies, clientAuthorities == nil {
            object.refuse("client_auth_type", "\(JSONValue.quoted(clientAuth.rawValue)) needs client_ca_file or client_ca_pem")
        }
        for source in [clientAuthorities, revocationLists].compactMap(\.self) where !clientAuth.verifies {
            object.problems.add(
                source.path, "is of no use with client_auth_type \(JSONValue.quoted(clientAuth.rawValue))", at: source.position)
        }
        object.refuseUnknown()
        if certificate == nil { object.refuse("cert_file", "is required, or cert_pem") }
        if key == nil { object.refuse("key_file", "is required, or key_pem") }
        guard let certificate, let key else { return nil }
        (self.certificate, self.key) = (certificate, key)
    }
}
