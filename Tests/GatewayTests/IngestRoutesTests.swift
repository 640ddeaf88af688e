import Testing

@testable import HTTPServer
@testable import ProfileAPI
@testable import Receivers

@Suite("Requests that a receive_http listener admits")
struct IngestRoutesTests {
    private static let routes = makeRoutes()

    private static func makeRoutes(below prefix: String = "", isReady: (@Sendable () -> Bool)? = { true }) -> IngestRoutes {
        let limits = Limits(maxBodySize: 77)
        let intake = ProfileIntake(
            ack: .queued, tenant: .pass, rates: nil, keepHeaders: ["user-agent"], fanOut: FanOut(receivers: []),
            counters: ProfileCounters(), memory: nil)
        return IngestRoutes(
            ingest: IngestEndpoint(limits: limits, intake: intake),
            push: PushEndpoint(limits: limits, intake: intake, largePushes: LargePushes(bodies: BodyBudget(limit: .max))), below: prefix,
            isReady: isReady)
    }

    /// The limit of the body, `77`, when the request is admitted, or the refusal's status and message.
    private static func admit(_ requestLine: String, _ fields: String = "", by routes: IngestRoutes = routes) throws -> String {
        let input = Array("\(requestLine) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n".utf8)
        guard case .head(let head, _) = try RequestParser.parse(input[...]) else { return "incomplete" }
        switch routes.admit(head) {
        case .receive(let request): return "\(request.bodyLimit)"
        case .refuse(let response): return "\(response.status) \(String(decoding: response.body, as: UTF8.self))"
        }
    }

    @Test(
        "A profile with a valid name is admitted on either path",
        arguments: [
            "/ingest?name=a", "/pyroscope/ingest?name=a", "/ingest?from=junk&until=junk&format=what&name=a", "/ingest?name=a%7Bb%3Dc%7D",
            "/ingest?name=+a+", "/ingest?name=a&name=%zz", "/ingest?name=a&x=%zz", "/ingest?name=a{b=\u{fc}}",
        ])
    func admitted(target: String) throws {
        #expect(try Self.admit("POST \(target)") == "77")
    }

    @Test(
        "Any other path is answered 404",
        arguments: [
            "/", "//", "/Ingest?name=a", "/ingest%20", "/metrics", "/pyroscope/ingest2", "/ingest/x", "/x//ingest", "/pyroscopeingest",
            "/ingest/.", "/./ingest", "/push.v1.PusherService", "/push.v1.PusherService/Pus",
        ])
    func unknownPath(target: String) throws {
        #expect(try Self.admit("POST \(target)").hasPrefix(#"404 {"code":"not_found","message":"no such path: "#))
    }

    @Test(
        "Slashes may come several times, and one more at the end",
        arguments: [
            "//ingest?name=a", "/ingest/?name=a", "///ingest///?name=a", "//pyroscope//ingest/?name=a", "/pyroscope//ingest?name=a",
        ])
    func slashes(target: String) throws { #expect(try Self.admit("POST \(target)") == "77") }

    @Test("A Push is recognized with more slashes too", arguments: ["/push.v1.PusherService//Push", "//push.v1.PusherService/Push/"])
    func pushSlashes(target: String) throws {
        #expect(try Self.admit("POST \(target)", "Content-Type: application/proto\r\n") == "77")
    }

    @Test(
        "With a prefix, only paths below it are served",
        arguments: [
            ("/a/b/ingest?name=a", true), ("//a//b//ingest/?name=a", true), ("/a/b/pyroscope/ingest?name=a", true),
            ("/ingest?name=a", false),
            ("/pyroscope/ingest?name=a", false), ("/a/ingest?name=a", false), ("/a/b", false), ("/a/bingest?name=a", false),
            ("/a/b/a/b/ingest?name=a", false), ("/A/b/ingest?name=a", false),
        ])
    func prefix(target: String, isAdmitted: Bool) throws {
        let answer = try Self.admit("POST \(target)", by: Self.makeRoutes(below: "/a/b"))
        #expect(isAdmitted ? answer == "77" : answer.hasPrefix("404 "))
    }

    @Test("Health is answered at its paths, below a prefix and without it", arguments: ["", "/a/b"])
    func health(prefix: String) throws {
        let (ready, starting) = (Self.makeRoutes(below: prefix), Self.makeRoutes(below: prefix) { false })
        for start in ["", prefix] {
            for method in ["GET", "HEAD"] {
                #expect(try Self.admit("\(method) \(start)/-/healthy", by: starting) == "200 healthy\n")
                for path in ["/-/ready", "/ready", "//ready/"] {
                    #expect(try Self.admit("\(method) \(start)\(path)", by: ready) == "200 ready\n")
                    #expect(try Self.admit("\(method) \(start)\(path)", by: starting).hasPrefix("503 "))
                }
            }
            #expect(try Self.admit("POST \(start)/ready", by: ready).hasPrefix("405 "))
        }
        #expect(try Self.admit("GET /-/reload", by: ready).hasPrefix("404 "))
        #expect(try Self.admit("GET /ready", by: Self.makeRoutes(isReady: nil)).hasPrefix("404 "))
    }

    @Test("Any other method is answered 405", arguments: ["GET", "HEAD", "PUT", "post"])
    func otherMethod(method: String) throws {
        #expect(try Self.admit("\(method) /ingest?name=a").hasPrefix("405 "))
    }

    @Test(
        "An invalid name is answered 400 with the reason",
        arguments: [
            ("/ingest", "name: is required"),
            ("/ingest?name", "name: service name is required"),
            ("/ingest?name=", "name: service name is required"),
            ("/ingest?name=%zz", #"name: \"%zz\" is no percent-encoding"#),
            ("/ingest?name=%ff", "name: is not valid UTF-8"),
            ("/ingest?name=a%00b", "name: contains a NUL character"),
            ("/ingest?name=a{b=%00}", "name: contains a NUL character"),
            ("/ingest?name=a{b-c=1}", #"name: invalid label name \"b-c\": \"-\" is not allowed"#),
            ("/ingest?name=a{b=1,=2}", "name: label name is required"),
            ("/ingest?name=a%1b", #"name: invalid service name \"a\\u001b\": only A-Z a-z 0-9 _ . / - are allowed"#),
        ])
    func badName(target: String, message: String) throws {
        #expect(try Self.admit("POST \(target)") == #"400 {"code":"invalid_argument","message":"\#(message)"}"#)
    }

    @Test("A tenant has at most 150 bytes", arguments: [(0, true), (1, true), (149, true), (150, true), (151, false)])
    func tenantLength(count: Int, isAdmitted: Bool) throws {
        let answer = try Self.admit("POST /ingest?name=a", "X-Scope-OrgID: \(String(repeating: "t", count: count))\r\n")
        #expect(answer == (isAdmitted ? "77" : #"400 {"code":"invalid_argument","message":"X-Scope-OrgID: is longer than 150 bytes"}"#))
    }

    @Test(
        "A tenant may have only the characters that Pyroscope accepts",
        arguments: [("aZ09!_.*'()-", true), ("a|b", false), ("a b", false), ("\u{fc}", false), ("a/b", false)])
    func tenantCharacters(tenant: String, isAdmitted: Bool) throws {
        #expect(try Self.admit("POST /ingest?name=a", "X-Scope-OrgID: \(tenant)\r\n").hasPrefix(isAdmitted ? "77" : "400 "))
    }
}
