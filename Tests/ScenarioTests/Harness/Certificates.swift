import Foundation

/// Certificates and keys for one scenario, by the openssl command: `NAME.pem` and `NAME.key` in its folder.
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

    func makeAuthority(_ name: String) throws {
        try openssl(
            ["req", "-x509"] + Self.newKey + [
                "-keyout", path("\(name).key"), "-out", path("\(name).pem"), "-subj", "/CN=\(name)", "-days", "2",
            ])
    }

    /// - Parameters:
    ///   - days: how long it is valid; a negative number makes one that has expired.
    ///   - hosts: whom it is for.
    func make(_ name: String, by authority: String = "ca", days: Int = 2, hosts: String = "DNS:localhost,IP:127.0.0.1") throws {
        let extensions = try scenario.write(
            "subjectAltName=\(hosts)\nextendedKeyUsage=serverAuth,clientAuth\n", to: "extensions")
        try openssl(["req"] + Self.newKey + ["-keyout", path("\(name).key"), "-out", path("request"), "-subj", "/CN=\(name)"])
        try openssl([
            "x509", "-req", "-in", path("request"), "-CA", path("\(authority).pem"), "-CAkey", path("\(authority).key"), "-set_serial",
            "\(Int.random(in: 1...Int(Int32.max)))", "-days", "\(days)", "-extfile", extensions, "-out", path("\(name).pem"),
        ])
    }

    private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    func openssl(_ arguments: [String]) throws {
        let process = try scenario.start(["openssl"] + arguments)
        guard try process.waitForExit() == 0 else { throw NeverCame(what: "openssl \(arguments)", seen: process.errors.lines) }
    }

    /// The text of a file, as a JSON string has it.
    func pem(_ name: String) throws -> String {
        try String(contentsOfFile: path(name), encoding: .utf8).replacing("\n", with: "\\n")
    }

    /// The members of a `tls` block with the server's certificate.
    static func block(_ more: String = "") -> String {
        "\"tls\": { \"cert_file\": \"server.pem\", \"key_file\": \"server.key\", \(more) },"
    }

    /// What makes curl trust the authority, and show a certificate where one is named.
    func curl(showing name: String? = nil) -> [String] {
        let shown = name.map { ["--cert", path("\($0).pem"), "--key", path("\($0).key")] } ?? []
        return ["--cacert", authority] + shown
    }
}
