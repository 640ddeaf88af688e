import Foundation
import Glibc

/// Debian's nginx as a proxy before an upstream, everything of it in the scenario's folder.
struct Nginx {
    let port: UInt16
    var url: String { "http://127.0.0.1:\(port)" }

    init(_ scenario: Scenario, before upstream: UInt16, location: String = "", server: String = "") throws {
        port = try Self.freePort()
        let user = getuid() == 0 ? "user root;" : ""
        let prefix = scenario.path("nginx")
        try FileManager.default.createDirectory(atPath: prefix, withIntermediateDirectories: true)
        let file = try scenario.write(
            """
            daemon off; master_process off; pid \(prefix)/pid; error_log stderr notice; \(user)
            events {}
            http {
              access_log off; client_max_body_size 0;
              client_body_temp_path \(prefix)/body; proxy_temp_path \(prefix)/proxy; fastcgi_temp_path \(prefix)/f;
              uwsgi_temp_path \(prefix)/u; scgi_temp_path \(prefix)/s;
              upstream recorder { server 127.0.0.1:\(upstream); keepalive 8; }
              server {
                listen 127.0.0.1:\(port);
                \(server)
                location / {
                  \(location)
                  proxy_pass http://recorder; proxy_http_version 1.1; proxy_set_header Connection "";
                }
              }
            }
            """, to: "nginx.conf")
        let process = try scenario.start([Self.program, "-p", prefix, "-c", file])
        // It has its socket before it chooses how to wait on it.
        try process.errors.wait(for: "using the \"epoll\" event method")
    }

    /// Debian keeps it where only root looks.
    private static var program: String { access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx" }

    /// A port that nobody has at the moment.
    static func freePort() throws -> UInt16 {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { Glibc.close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, length) == 0 && getsockname(socket, $0, &length) == 0
            }
        }
        guard isBound else { throw NeverCame(what: "a free port", seen: []) }
        return UInt16(bigEndian: address.sin_port)
    }
}
