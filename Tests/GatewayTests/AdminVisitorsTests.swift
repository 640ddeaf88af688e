import Testing

@testable import Gateway
@testable import HTTPServer

@Suite("Which requests the admin listener serves")
struct AdminVisitorsTests {
    private static let visitors = AdminVisitors(hosts: ["metrics.example.net", "gw_1"])

    /// Whether a request with this request line and these header fields is served.
    private static func isServed(_ line: String, _ fields: [String]) throws -> Bool {
        let text = ([line] + fields).joined(separator: "\r\n") + "\r\n\r\n"
        guard case .head(let head, _) = try RequestParser.parse(ArraySlice(text.utf8)) else { return false }
        return visitors.objection(to: head) == nil
    }

    static let own = [
        "127.0.0.1", "127.0.0.1:12345", "10.1.2.3:80", "[::1]:12345", "[fe80::1]", "localhost", "LOCALHOST:1", "localhost.:80",
        "metrics.example.net", "Metrics.Example.Net.:443", "gw_1:12345",
    ]
    static let foreign = ["evil.example", "evil.example:12345", "localhost.evil.example", "127.0.0.1.evil.example", "metrics.example", ""]

    @Test("A Host that is an IP address, localhost or a name from the config is served", arguments: own)
    func ownHost(host: String) throws {
        for line in ["GET /api/v1/status HTTP/1.1", "POST /-/reload HTTP/1.1", "GET /nowhere HTTP/1.1"] {
            #expect(try Self.isServed(line, ["Host: \(host)"]), "\(line)")
        }
    }

    @Test("Another Host is served only the health, readiness and metrics pages", arguments: foreign)
    func foreignHost(host: String) throws {
        for line in ["GET /api/v1/status HTTP/1.1", "POST /-/reload HTTP/1.1", "GET /-/healthy/ HTTP/1.1", "GET /nowhere HTTP/1.1"] {
            #expect(try Self.isServed(line, ["Host: \(host)"]) == false, "\(line)")
        }
        for path in ["/-/healthy", "/-/ready", "/metrics"] { #expect(try Self.isServed("GET \(path) HTTP/1.1", ["Host: \(host)"])) }
    }

    @Test("HTTP/1.0 without a Host is served, because no browser speaks it")
    func noHost() throws { #expect(try Self.isServed("GET /api/v1/status HTTP/1.0", [])) }

    @Test(
        "A request with the Origin of another site is refused for every path",
        arguments: ["http://evil.example", "null", "https://localhost:1", "http://localhost", ""])
    func foreignOrigin(origin: String) throws {
        for line in ["GET /metrics HTTP/1.1", "GET /-/healthy HTTP/1.1", "POST /-/reload HTTP/1.1"] {
            #expect(try Self.isServed(line, ["Host: localhost:12345", "Origin: \(origin)"]) == false, "\(line)")
        }
        #expect(try Self.isServed("GET /metrics HTTP/1.0", ["Origin: http://localhost:12345"]) == false, "with no Host it is nobody's own")
    }

    @Test("The listener's own Origin is served, also without the scheme's default port")
    func ownOrigin() throws {
        for (host, origin) in [
            ("localhost:12345", "http://localhost:12345"), ("LOCALHOST:12345", "HTTPS://localhost:12345"), ("[::1]:1", "http://[::1]:1"),
            ("localhost", "http://localhost"), ("localhost:80", "http://localhost"), ("localhost:443", "https://localhost"),
            ("localhost", "https://localhost:443"),
        ] {
            #expect(try Self.isServed("POST /-/reload HTTP/1.1", ["Host: \(host)", "Origin: \(origin)"]), "\(host) \(origin)")
        }
        #expect(try Self.isServed("POST /-/reload HTTP/1.1", ["Host: localhost:1", "Origin: http://localhost:1", "Origin: null"]) == false)
    }

    @Test("A POST whose Sec-Fetch-Site is another site is refused, and a GET is served")
    func fetchSite() throws {
        for (site, isServed) in [("cross-site", false), ("same-site", false), ("same-origin", true), ("none", true)] {
            #expect(try Self.isServed("POST /-/reload HTTP/1.1", ["Host: localhost", "Sec-Fetch-Site: \(site)"]) == isServed, "\(site)")
            #expect(try Self.isServed("GET /api/v1/status HTTP/1.1", ["Host: localhost", "Sec-Fetch-Site: \(site)"]), "\(site)")
        }
    }
}
