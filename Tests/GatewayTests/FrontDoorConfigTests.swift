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
}
