import ConfigJSON

extension Optional<ConfigSource> {
    /// The same source without its position in the config.
    fileprivate var unplaced: ConfigSource? { map { ConfigSource(content: $0.content, path: $0.path, position: nil) } }
}

extension TLSConfig {
    fileprivate var unplaced: TLSConfig {
        TLSConfig(
            certificate: ConfigSource(content: certificate.content, path: certificate.path, position: nil),
            key: ConfigSource(content: key.content, path: key.path, position: nil), clientAuthorities: clientAuthorities.unplaced,
            revocationLists: revocationLists.unplaced, clientAuth: clientAuth, minimumVersion: minimumVersion)
    }
}

extension AuthConfig {
    fileprivate var unplaced: AuthConfig {
        AuthConfig(users: users.unplaced, tokens: tokens.unplaced, clientCertificate: clientCertificate)
    }
}

extension Listener {
    /// The TLS and the access control of a listener, read from the files that its config names.
    package struct Security: Sendable {
        /// The listener's TLS; nil serves plain HTTP.
        private(set) var certificates: ServerCertificates?
        /// Decides who may send; nil lets everybody send.
        package private(set) var access: AccessControl?

        package init(_ http: HTTPConfig) throws(FileProblems) {
            var problems = FileProblems()
            certificates = problems.collect(all: { () throws(FileProblems) in
                try http.tls.map { tls throws(FileProblems) in try ServerCertificates(tls) }
            })
            access = problems.collect(all: { () throws(FileProblems) in
                try http.auth.map { auth throws(FileProblems) in try AccessControl(auth) }
            })
            try problems.check()
        }

        /// These guards, but with the parts of `old` whose configuration is the same, so that what those have learned is kept.
        package func keeping(_ old: Security, _ http: HTTPConfig, as before: HTTPConfig) -> Security {
            var security = self
            if http.tls?.unplaced == before.tls?.unplaced { security.certificates = old.certificates }
            if http.auth?.unplaced == before.auth?.unplaced, http.tls?.clientAuth == before.tls?.clientAuth { security.access = old.access }
            return security
        }

        /// Reads changed files again; may block on the disk.
        package func refreshFiles(listener: String) {
            certificates?.refresh(listener: listener)
            access?.refresh(listener: listener)
        }
    }
}
