import Foundation
import Glibc

/// Debian's HAProxy, which passes TCP connections on and says whose they are.
struct HAProxy {
    let port: UInt16
    private let process: ChildProcess

    /// - Parameters:
    ///   - upstream: the port that connections are passed on to.
    ///   - server: parameters of the server, such as `send-proxy-v2`.
    init(_ scenario: Scenario, before upstream: UInt16, server: String) throws {
        port = try scenario.port()
        let file = try scenario.write(
            """
            defaults
                mode tcp
                timeout connect 60s
                timeout client 60s
                timeout server 60s
            listen front
                bind 127.0.0.1:\(port)
                server gateway 127.0.0.1:\(upstream) \(server)

            """, to: "haproxy-\(port).cfg")
        process = try scenario.start([Self.program, "-db", "-f", file])
        // It says nothing when it listens.
        _ = try process.errors.poll(for: "HAProxy to listen") { try? RawConnection(port) }
    }

    /// Debian installs HAProxy in a folder that only root has in PATH.
    private static var program: String { access("/usr/sbin/haproxy", X_OK) == 0 ? "/usr/sbin/haproxy" : "haproxy" }
}
