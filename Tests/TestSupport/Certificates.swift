import Foundation

/// Certificates and keys of one scenario, made by openssl: `NAME.pem` and `NAME.key` in its folder.
struct Certificates {
    private let scenario: Scenario
    var authority: String { path("ca.pem") }

    /// Makes an authority, a server's certificate for localhost, and a client's.
    init(_ scenario: Scenario) throws {
        self.scenario = scenario
        try makeAuthority("ca")
        for name in ["server", "client"] { try make(name) }
    }

    func path(_ name: String) -> String { scenario.path(name) }

    /// Makes an authority.
    ///
    /// - Parameter authority: the authority that signs it; nil makes a self-signed one.
    func makeAuthority(_ name: String, below authority: String? = nil) throws {
        let signed = authority.map { ["-CA", path("\($0).pem"), "-CAkey", path("\($0).key")] } ?? []
        try openssl(
            ["req", "-x509"] + Self.newKey + signed + [
                "-keyout", path("\(name).key"), "-out", path("\(name).pem"), "-subj", "/CN=\(name)", "-days", "2",
            ])
    }

    /// Makes a certificate for servers and clients.
    ///
    /// - Parameters:
    ///   - days: how long it is valid; a negative number makes an expired one.
    ///   - hosts: the names it is valid for.
    ///   - key: arguments that select the kind of key.
    func make(
        _ name: String, by authority: String = "ca", days: Int = 2, hosts: String = "DNS:localhost,IP:127.0.0.1", key: [String] = newKey
    ) throws {
        let extensions = try scenario.write(
            "subjectAltName=\(hosts)\nextendedKeyUsage=serverAuth,clientAuth\n", to: "extensions")
        try openssl(["req"] + key + ["-keyout", path("\(name).key"), "-out", path("request"), "-subj", "/CN=\(name)"])
        try openssl([
            "x509", "-req", "-in", path("request"), "-CA", path("\(authority).pem"), "-CAkey", path("\(authority).key"), "-set_serial",
            "\(Int.random(in: 1...Int(Int32.max)))", "-days", "\(days)", "-extfile", extensions, "-out", path("\(name).pem"),
        ])
    }

    static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    static let newRSAKey = ["-newkey", "rsa:2048", "-nodes"]

    // MARK: Expiry and revocation

    /// Makes a client certificate that expires this many seconds from now.
    func make(_ name: String, endingIn seconds: TimeInterval) throws {
        try openssl(["req"] + Self.newKey + ["-keyout", path("\(name).key"), "-out", path("request"), "-subj", "/CN=\(name)"])
        try sign(["-in", path("request"), "-out", path("\(name).pem"), "-notext", "-enddate", Self.stamp(seconds)])
    }

    /// Revokes these certificates, and writes the authority's list of all revoked ones as `NAME.crl`.
    ///
    /// - Parameter seconds: how long the list is valid.
    func makeList(_ name: String, revoking revoked: [String], by authority: String = "ca", endingIn seconds: TimeInterval = 86_400) throws {
        for other in revoked { try sign(["-revoke", path("\(other).pem")], by: authority) }
        try sign(["-gencrl", "-crl_nextupdate", Self.stamp(seconds), "-out", path("\(name).crl")], by: authority)
    }

    /// Runs `openssl ca` with the authority's own database.
    private func sign(_ arguments: [String], by authority: String = "ca") throws {
        let index = path("\(authority).index")
        if !FileManager.default.fileExists(atPath: index) { try scenario.write("", to: "\(authority).index") }
        let config = try scenario.write(
            """
            [ca]
            default_ca = own
            [own]
            database = \(index)
            new_certs_dir = \(path("."))
            rand_serial = yes
            default_md = sha256
            policy = any
            [any]
            commonName = supplied
            """, to: "ca.config")
        try openssl(
            ["ca", "-batch", "-config", config, "-cert", path("\(authority).pem"), "-keyfile", path("\(authority).key")] + arguments)
    }

    /// A time in the format of `openssl ca`.
    private static func stamp(_ seconds: TimeInterval) -> String {
        let form = DateFormatter()
        form.dateFormat = "yyyyMMddHHmmss'Z'"
        form.timeZone = TimeZone(identifier: "UTC")
        form.locale = Locale(identifier: "en_US_POSIX")
        return form.string(from: Date(timeIntervalSinceNow: seconds))
    }

    /// Runs openssl, which must succeed.
    func openssl(_ arguments: [String]) throws {
        let process = try scenario.start(["openssl"] + arguments)
        guard try process.waitForExit() == 0 else { throw NeverCame(what: "openssl \(arguments)", seen: process.errors.lines) }
    }

    /// The text of a file, escaped for a JSON string.
    func pem(_ name: String) throws -> String {
        try String(contentsOfFile: path(name), encoding: .utf8).replacing("\n", with: "\\n")
    }

    /// A `tls` block with the server's certificate and these further members.
    static func block(_ more: String = "") -> String {
        "\"tls\": { \"cert_file\": \"server.pem\", \"key_file\": \"server.key\", \(more) },"
    }

    /// Arguments that make curl trust the authority, and use the named client certificate.
    func curl(showing name: String? = nil) -> [String] {
        let shown = name.map { ["--cert", path("\($0).pem"), "--key", path("\($0).key")] } ?? []
        return ["--cacert", authority] + shown
    }
}
