import ConfigJSON

extension Listener {
    /// What stands between a listener and strangers, read from the files that its config names.
    struct Guards: Sendable {
        /// Its TLS; nil speaks plain HTTP.
        private(set) var certificates: ServerCertificates?
        /// Who may send; nil is everybody.
        private(set) var access: AccessControl?

        /// - Parameter openPath: a path that everybody may ask for.
        init(_ http: HTTPConfig, openPath: String? = nil) throws(Problem) {
            if let tls = http.tls { certificates = try ServerCertificates(tls) }
            if let auth = http.auth { access = try AccessControl(auth, openPath: openPath) }
        }

        /// What is wrong with the files that a config names.
        static func problems(_ config: Config) -> [Problem] {
            (config.listeners.map(\.http) + [config.admin?.http].compactMap(\.self)).compactMap { http in
                do throws(Problem) { _ = try Self(http) } catch { return error }
                return nil
            }
        }

        /// Reads the files that were changed again; may block on the disk.
        func refreshFiles(listener: String) {
            certificates?.refresh(listener: listener)
            access?.refresh(listener: listener)
        }
    }
}
