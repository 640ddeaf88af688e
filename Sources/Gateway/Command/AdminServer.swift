import ConfigJSON
import Glibc
import HTTPServer
import LinuxSystem

/// The admin listener of the gateway that runs with a config file, for commands that ask it.
struct AdminServer {
    private let http: HTTPConfig

    /// Finds the listener's address in a config file; other mistakes in the file are ignored here, because the gateway reports them.
    init(of path: String) throws {
        _ = try FileDescriptor.open(path, O_RDONLY)
        let file = ConfigFile.read(path)
        // The address may depend on environment variables that only the gateway has.
        if let unknown = file.unresolved.first(where: { $0.path.hasPrefix("admin.") }) { throw unknown }
        guard let http = file.config.admin?.http else { throw HTTPClient.Failure(description: "\(path): admin is off") }
        guard http.port != 0 || http.socketPath != nil else {
            throw HTTPClient.Failure(description: "\(path): admin.listen_port is 0, so the port is not known here")
        }
        self.http = http
    }

    /// Makes a client that trusts this listener.
    func client() throws -> HTTPClient {
        let client = try HTTPClient()
        // The admin listener is on this machine, so no proxy is used.
        client.goDirectly()
        if let path = http.socketPath { client.connect(throughSocket: path) }
        if let tls = http.tls { client.trustOnly(try tls.certificate.read()) }
        return client
    }

    func url(_ path: String) -> String {
        let listening = ["", "0.0.0.0", "::", "[::]"].contains(http.address) ? "localhost" : http.address
        let place = http.socketPath == nil ? Self.place(listening, http.port) : "localhost"
        return "\(http.tls == nil ? "http" : "https")://\(place)\(path)"
    }

    /// An address and a port as they stand in a URL; a Unix socket has no port.
    static func place(_ address: String, _ port: some BinaryInteger) -> String {
        if address.hasPrefix(HTTPConfig.unixScheme) { return address }
        return (address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address) + ":\(port)"
    }
}
