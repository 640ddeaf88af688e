import Foundation
import Testing

@testable import TestSupport

@Suite("Tenants and rate limits", .serialized)
struct TenantTests {
    /// Runs a test against a gateway that archives, because an archive shows the tenant of each profile.
    private func run(_ more: String, _ body: (Scenario, GatewayProcess) throws -> Void) throws {
        try Scenario.run { scenario in
            let listener = GatewayProcess.listener(["archive"], more: more)
            try body(
                scenario,
                try GatewayProcess(
                    scenario, GatewayProcess.config(listeners: listener, receivers: ["archive": ReceiverEntry.archive()])))
        }
    }

    private static func tenant(_ name: String) -> String { name.isEmpty ? "" : "X-Scope-OrgID: \(name)\r\n" }

    /// A listener's members, tenants with the status that each gets, and the tenants in the archive.
    static let policies: [(String, [(String, Int)], Set<String>)] = [
        ("", [("", 200), ("a", 200), ("a b", 400)], ["anonymous", "a"]),
        ("\"tenant\": { \"force\": \"ours\" },", [("", 200), ("a", 200), ("a b", 200)], ["ours"]),
        ("\"tenant\": { \"require\": true },", [("", 401), ("a", 200), ("b", 200)], ["a", "b"]),
        ("\"tenant\": { \"allow\": [\"a\", \"c\"] },", [("", 401), ("a", 200), ("b", 403)], ["a"]),
    ]

    @Test("A tenant is passed on, forced, required or restricted to a list, on both APIs", arguments: policies)
    func policy(config: String, requests: [(String, Int)], owners: Set<String>) throws {
        try run(config) { scenario, gateway in
            let connection = try RawConnection(gateway.port)
            for (name, status) in requests {
                #expect(try connection.post("/ingest?name=app", "a 1", headers: Self.tenant(name)).status == status)
                let push = try gateway.push(.numbered(1), headers: Self.tenant(name))
                #expect(push.status == status)
                if status == 401 {
                    #expect(push.code == "unauthenticated")
                    #expect(push.header("WWW-Authenticate") == "X-Scope-OrgID")
                }
                if status == 403 { #expect(push.code == "permission_denied") }
            }
            let good = 2 * requests.count { $0.1 == 200 }
            try gateway.waitForMetrics("the archive") { $0.delivered("archive") == good }
            let folders = Set(scenario.files(under: "archive").compactMap { $0.split(separator: "/").first.map(String.init) })
            #expect(folders == owners)
        }
    }

    @Test("A tenant over its rate of profiles gets 429 with Retry-After, and other tenants do not")
    func profiles() throws {
        try run("\"rate_limit\": { \"profiles_per_second\": 1, \"profiles_burst\": 1000 },") { _, gateway in
            let connection = try RawConnection(gateway.port)
            var statuses: [Int] = []
            var refusal: RawConnection.Response?
            while refusal == nil, statuses.count < 3000 {
                let answer = try connection.post("/ingest?name=app", "a 1", headers: Self.tenant("a"))
                statuses.append(answer.status)
                if answer.status != 200 { refusal = answer }
            }
            #expect(statuses.count > 1000, "a whole burst passed")
            #expect(refusal?.status == 429)
            #expect(refusal?.header("Retry-After") == "1")
            #expect(refusal?.text == #"{"code":"resource_exhausted","message":"tenant \"a\" is over rate_limit"}"#)
            for tenant in ["b", ""] { #expect(try connection.post("/ingest?name=app", "a 1", headers: Self.tenant(tenant)).status == 200) }
            // 2000 series exceed a burst, so they pass only while the bucket is full, and leave a debt.
            let many = (0..<2000).map { PushSeries.numbered($0) }
            #expect(try connection.push(many, headers: Self.tenant("c")).status == 200)
            let push = try gateway.push(.numbered(1), headers: Self.tenant("c"))
            #expect((push.status, push.code) == (429, "resource_exhausted"))
            #expect(Int(push.header("Retry-After") ?? "") ?? 0 >= 900)
        }
    }

    @Test("A body over the rate of bytes is refused when its Content-Length is known")
    func bytes() throws {
        try run("\"rate_limit\": { \"bytes_per_second\": 1000, \"bytes_burst\": \"1MiB\" },") { scenario, gateway in
            let file = try scenario.write(String(repeating: "x", count: 1 << 20), to: "body")
            #expect(try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file).status == 200)
            let connection = try RawConnection(gateway.port)
            connection.send("POST /ingest?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n")
            let refusal = try connection.readResponse()
            #expect(refusal.status == 429)
            #expect(refusal.header("Connection") == "close", "nobody reads a megabyte to throw it away")
            #expect(
                try Curl.post(scenario, gateway.port, "/ingest?name=a", file: file, ["-H", "Transfer-Encoding: chunked"]).status == 429)
            #expect(try gateway.metrics().received == 1)
        }
    }
}
