import Foundation
import Glibc

/// Debian's nginx as a proxy in front of an upstream or as the upstream itself, with all files in the scenario's folder.
struct Nginx {
    /// A request that nginx has logged.
    struct Request: Decodable {
        let target: String
        let status: Int
        let version: String
        let host: String
        let connection: Int
        let tls: String
        /// The SNI of the client.
        let name: String
        /// SUCCESS, NONE or the error, and the subject of the client certificate.
        let verified: String
        let subject: String
        let authorization: String
        let encoding: String
    }

    private static let format = """
        {"target":"$request_uri","status":$status,"version":"$server_protocol","host":"$http_host","connection":$connection,"tls":"$ssl_protocol",\
        "name":"$ssl_server_name","verified":"$ssl_client_verify","subject":"$ssl_client_s_dn",\
        "authorization":"$http_authorization","encoding":"$http_content_encoding"}
        """

    let port: UInt16
    var url: String { "http://127.0.0.1:\(port)" }
    /// The URL for TLS, with the name in the server certificate.
    var secureURL: String { "https://localhost:\(port)" }
    private let scenario: Scenario
    private let prefix: String
    private let process: ChildProcess

    /// - Parameters:
    ///   - upstream: the port that requests are passed on to; without one, `location` or `server` must answer.
    ///   - listen: further parameters of `listen`, such as `ssl http2`.
    init(_ scenario: Scenario, before upstream: UInt16? = nil, listen: String = "", location: String = "", server: String = "") throws {
        self.scenario = scenario
        port = try scenario.port()
        prefix = scenario.path("nginx-\(port)")
        try FileManager.default.createDirectory(atPath: prefix, withIntermediateDirectories: true)
        let user = getuid() == 0 ? "user root;" : ""
        let pass = "proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection \"\";"
        let file = try scenario.write(
            """
            daemon off; master_process off; pid \(prefix)/pid; error_log stderr notice; \(user)
            events {}
            http {
              log_format requests escape=json '\(Self.format)';
              access_log /dev/stdout requests; client_max_body_size 0;
              client_body_temp_path \(prefix)/body; proxy_temp_path \(prefix)/proxy; fastcgi_temp_path \(prefix)/f;
              uwsgi_temp_path \(prefix)/u; scgi_temp_path \(prefix)/s;
              \(upstream.map { "upstream upstream { server 127.0.0.1:\($0); keepalive 8; }" } ?? "")
              server { listen unix:\(prefix)/sync; return 204; }
              server {
                listen 127.0.0.1:\(port) \(listen);
                \(server)
                location / {
                  \(location)
                  \(upstream == nil ? "" : pass)
                }
              }
            }
            """, to: "nginx-\(port).conf")
        process = try scenario.start([Self.program, "-p", prefix, "-c", file])
        // nginx creates its socket before it writes this line.
        try process.errors.wait(for: "using the \"epoll\" event method")
    }

    /// Directives for TLS with a certificate of ``Certificates``.
    static func tls(_ name: String = "server", _ more: String = "") -> String {
        "ssl_certificate \(name).pem; ssl_certificate_key \(name).key; \(more)"
    }

    /// Waits for this many requests; over HTTP/2 a line may come after the answer.
    func wait(count: Int) throws -> [Request] {
        _ = try process.output.wait(for: "\(count) requests") { lines in
            lines.count { !$0.contains("\"/sync/") } >= count ? true : nil
        }
        return try requests
    }

    /// Every request that has been answered so far, in order.
    var requests: [Request] {
        get throws {
            // nginx logs in order, so the line of this request comes after those of all earlier ones.
            let mark = "/sync/\(UUID().uuidString)"
            try scenario.start(["curl", "-q", "-sS", "--unix-socket", "\(prefix)/sync", "http://nginx\(mark)"]).waitForExit()
            try process.output.wait(for: mark)
            let lines = process.output.lines.filter { !$0.contains("\"/sync/") }
            return try lines.map { try JSONDecoder().decode(Request.self, from: Data($0.utf8)) }
        }
    }

    /// Debian installs nginx in a folder that only root has in PATH.
    private static var program: String { access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx" }
}
