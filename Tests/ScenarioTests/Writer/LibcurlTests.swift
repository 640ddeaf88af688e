import Foundation
import Testing

@testable import TestSupport

@Suite("libcurl is opened where something needs it", .serialized)
struct LibcurlTests {
    private func hasLibcurl(_ gateway: GatewayProcess, _ scenario: Scenario) throws -> Bool {
        // Foundation reads only the beginning of a file whose size is said to be 0.
        let reader = try scenario.start(["cat", "/proc/\(gateway.process.id)/maps"])
        #expect(try reader.waitForExit() == 0)
        #expect(reader.output.lines.contains { $0.contains("/libHTTPWriter.so") })
        return reader.output.lines.contains { $0.contains("/libcurl.so") }
    }

    @Test(
        "A gateway whose endpoints are all plain HTTP delivers without libcurl in memory",
        arguments: [("", false), (#""client": "libcurl""#, true)])
    func mapped(members: String, isNeeded: Bool) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(scenario, up: ReceiverEntry.endpoint("\(upstream.url)/some/path/", members))
            try gateway.send(3)
            try gateway.waitForDeliveries(3)
            #expect(try hasLibcurl(gateway, scenario) == isNeeded)
        }
    }

    /// An environment in which libcurl cannot be opened.
    private func withoutLibcurl(_ scenario: Scenario) throws -> [String: String] {
        try FileManager.default.createDirectory(atPath: scenario.path("none"), withIntermediateDirectories: true)
        try scenario.write("no library", to: "none/libcurl.so.4")
        return ["LD_LIBRARY_PATH": scenario.path("none")]
    }

    @Test(
        "Without libcurl, check refuses an endpoint that needs it, and only that",
        arguments: [
            (#""url": "http://host:4040/path""#, ""), (#""url": "https://host""#, "url"),
            (#""url": "http://host", "client": "libcurl""#, "url"), (#""url": "http://[::1]:4040""#, "url"),
            (#""url": "http://host", "proxy_url": "http://proxy""#, "proxy_url"),
            (#""url": "http://h", "oauth2": { "client_id": "a", "client_secret": "b", "token_url": "http://t" }"#, "url"),
        ])
    func missing(members: String, member: String) throws {
        try Scenario.run { scenario in
            let entry = "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \(members) }] }"
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: ["up": entry])
            let file = try scenario.write("{ \(config) }", to: "gateway.json")
            let check = try scenario.start(
                [try Project.builtGateway(), "check", "--config", file], environment: try withoutLibcurl(scenario))
            #expect(try check.waitForExit() == (member.isEmpty ? 0 : 1))
            let said = check.output.lines.filter { $0.contains("needs libcurl") }
            #expect(said.isEmpty == member.isEmpty, "\(check.output.lines)")
            #expect(said.allSatisfy { $0.contains("endpoint[0].\(member):") && $0.contains("libcurl.so.4") }, "\(said)")
        }
    }

    @Test("Without libcurl, a profile that is redirected waits, and health says why")
    func redirect() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let nginx = try Nginx(scenario, location: "return 307 \(upstream.url)$request_uri;")
            let way = Way("up", "")
            let gateway = try GatewayProcess(scenario, [way], to: { _ in nginx.url }, environment: try withoutLibcurl(scenario))
            try gateway.send(1)
            let metrics = try gateway.waitForOutcomes(1)
            #expect(metrics.retries() > 0)
            #expect(metrics.dropped("up", "rejected") == 0)
            try gateway.log.wait(for: "needs libcurl")
            #expect(upstream.requests.isEmpty)
        }
    }
}
