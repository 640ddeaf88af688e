import LinuxSystem
import Testing

@testable import Gateway
@testable import HTTPServer

@Suite("Reading the options for what stands before a listener")
struct FrontDoorConfigTests {
    private func read(_ listener: String = "", http: String = "", admin: String = "") -> ConfigFile {
        let text = """
            {"admin": {\(admin)}, "receive_http": {"l": {"forward_to": ["r"], "http": {\(http)}, \(listener)}}, "receivers": {"r": {"plugin": "P"}}}
            """
        return ConfigFile(path: "g.json", text: Array(text.utf8))
    }

    /// The only problem, without its place.
    private func problem(_ file: ConfigFile) -> String { file.problems.count == 1 ? "\(file.problems[0])" : "\(file.lines)" }

    @Test("Health is answered, there is no prefix, and nobody is trusted, unless the config says so")
    func defaults() throws {
        let listener = try #require(read().config.listeners.first)
        #expect(listener.health && listener.pathPrefix == "" && listener.http.trustedProxies.isEmpty && !listener.http.proxyProtocol)
        #expect(read(#""health": false"#).config.listeners.first?.health == false)
    }

    @Test(
        "A prefix begins with a slash, and one at its end is left out",
        arguments: [
            ("/pyroscope", "/pyroscope"), ("/pyroscope/", "/pyroscope"), ("/a/b.c/..d", "/a/b.c/..d"), ("/", ""),
            ("/~a:@!$&'()*+,;=", "/~a:@!$&'()*+,;="),
        ])
    func prefix(text: String, expected: String) {
        let file = read("\"path_prefix\": \"\(text)\"")
        #expect(file.lines.isEmpty && file.config.listeners.first?.pathPrefix == expected)
    }

    @Test(
        "A prefix that no path can have, or that proxies read in several ways, is refused",
        arguments: [
            ("", "must begin with a slash"), ("pyroscope", "must begin with a slash"), ("/a%2fb", "must not have percent-encodings"),
            ("/./a", "must not have the segments . and .."), ("/a/..", "must not have the segments . and .."),
            ("/.", "must not have the segments"),
            ("//a", "must not have an empty segment"), ("/a//b", "must not have an empty segment"),
            ("//", "must not have an empty segment"),
            ("/a b", "must have only characters"), ("/a?b", "must have only characters"), ("/a#b", "must have only characters"),
            ("/\u{fc}", "must have only characters"), ("/a\\\\b", "must have only characters"),
        ])
    func refusedPrefix(text: String, reason: String) {
        #expect(problem(read("\"path_prefix\": \"\(text)\"")).hasPrefix("receive_http.l.path_prefix: \(reason)"))
    }

    @Test("Trusted proxies are addresses, networks and unix")
    func proxies() throws {
        let http = try #require(
            read(http: #""proxy_protocol": true, "trusted_proxies": ["10.0.0.0/8", "::1", "unix"]"#).config.listeners.first
        ).http
        #expect(http.proxyProtocol && http.trustedProxies.contains(.local) && http.trustedProxies.contains(PeerAddress(text: "10.1.2.3")))
        #expect(
            problem(read(http: #""trusted_proxies": ["10.0.0.0/8", "10.0.0.1/8"]"#))
                == #"receive_http.l.http.trusted_proxies: "10.0.0.1/8" has bits beyond its prefix length"#)
        #expect(problem(read(http: #""trusted_proxies": "10.0.0.0/8""#)).contains("must be an array of strings"))
        for http in [#""proxy_protocol": true"#, #""proxy_protocol": true, "trusted_proxies": []"#] {
            #expect(problem(read(http: http)).hasPrefix("receive_http.l.http.proxy_protocol: needs trusted_proxies"))
        }
    }

    // MARK: Unix sockets

    @Test("A listener and the admin listener may be at Unix sockets, whose mode is 0660 unless it is given")
    func unixSockets() throws {
        let file = read(
            http: #""listen_address": "unix:/run/in.sock", "socket_mode": "600""#, admin: #""listen_address": "unix:/run/admin.sock""#)
        #expect(file.lines.isEmpty, "\(file.lines)")
        let (listener, admin) = (try #require(file.config.listeners.first).http, try #require(file.config.admin).http)
        #expect((listener.socketPath, listener.port, listener.socketMode) == ("/run/in.sock", 0, 0o600))
        #expect((admin.socketPath, admin.port, admin.socketMode) == ("/run/admin.sock", 0, 0o660))
        #expect(read().config.listeners.first?.http.socketPath == nil)
    }

    static let refused: [(String, String)] = [
        (#""listen_address": "unix:/run/x", "listen_port": 0"#, "listen_port: means nothing beside a Unix socket"),
        (#""socket_mode": "0600""#, "socket_mode: goes with the listen_address of a Unix socket"),
        (#""listen_address": "unix:/run/x", "socket_mode": "0800""#, "socket_mode: must be an octal number"),
        (#""listen_address": "unix:/run/x", "socket_mode": "1777""#, "socket_mode: must be an octal number"),
        (#""listen_address": "unix:/run/x", "socket_mode": "66""#, "socket_mode: must be an octal number"),
        (#""listen_address": "unix:/run/x", "socket_mode": "0440""#, "socket_mode: lets nobody connect"),
        (#""listen_address": "unix:/run/x", "socket_mode": 432"#, "socket_mode: must be a string"),
        (#""listen_address": "unix:/run/a\tb""#, "listen_address: has a control character"),
    ]

    @Test("What a Unix socket cannot have is refused", arguments: refused)
    func refusedSocket(http: String, reason: String) {
        #expect(problem(read(http: http)).hasPrefix("receive_http.l.http.\(reason)"))
        #expect(problem(read(admin: http)).hasPrefix("admin.\(reason)"))
    }

    @Test("A path may have 107 bytes", arguments: [(106, true), (107, true), (108, false)])
    func longestPath(count: Int, isAccepted: Bool) {
        let file = read(http: "\"listen_address\": \"unix:/\(String(repeating: "s", count: count - 1))\"")
        #expect(file.lines.isEmpty == isAccepted && (isAccepted || problem(file).contains("has a path of 108 bytes")))
    }

    @Test("A mode for everybody is a warning, and two listeners at one socket are a problem")
    func warnings() {
        let open = read(http: #""listen_address": "unix:/run/x", "socket_mode": "0666""#)
        #expect(open.problems.isEmpty && open.warnings.map { "\($0)" }.first?.contains("lets everybody on this machine connect") == true)
        let both = read(http: #""listen_address": "unix:/run/x""#, admin: #""listen_address": "unix:/run/x""#)
        #expect(problem(both) == #"receive_http.l: wants the socket "/run/x", as admin does"#)
        #expect(read(http: #""listen_address": "unix:/run/x""#, admin: #""listen_address": "unix:/run/X""#).lines.isEmpty)
    }
}
