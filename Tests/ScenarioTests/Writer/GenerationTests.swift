import Foundation
import Testing

@testable import TestSupport

@Suite("Replacement of upstream connections", .serialized)
struct GenerationTests {
    private static func gateway(
        _ scenario: Scenario, _ url: String, _ members: String, more: String = ReceiverEntry.quickRetry, environment: [String: String] = [:]
    ) throws -> GatewayProcess {
        let receivers = ["up": ReceiverEntry.endpoint(url, members, more: more)]
        let config = GatewayProcess.config(listeners: GatewayProcess.listener(["up"]), receivers: receivers)
        return try GatewayProcess(scenario, config, environment: environment)
    }

    @Test(
        "A name whose address changes is followed under steady traffic, although the old address still answers",
        arguments: ["auto", "libcurl"])
    func moves(client: String) throws {
        try Scenario.run { scenario in
            let old = try Recorder(scenario)
            let new = try Recorder(scenario, port: old.port, host: "127.0.0.3")
            let names = try Names(scenario)
            try names.set("pyroscope.test", "127.0.0.1")
            let gateway = try Self.gateway(
                scenario, "http://pyroscope.test:\(old.port)", #""client": "\#(client)", "max_connection_age": "300ms""#,
                environment: names.environment)
            try gateway.send(3)
            try gateway.waitForDeliveries(3)
            #expect(old.requests.count == 3 && new.requests.isEmpty)
            try names.set("pyroscope.test", "127.0.0.3")
            try gateway.send(until: "a profile at the new address") { !new.requests.isEmpty }
            let metrics = try gateway.metrics()
            #expect(metrics.retries() == 0 && metrics.delivered("up") == metrics.accepted("up"))
        }
    }

    @Test("A name whose old address is gone is followed also without max_connection_age", arguments: ["auto", "libcurl"])
    func gone(client: String) throws {
        try Scenario.run { scenario in
            let old = try Recorder(scenario)
            let new = try Recorder(scenario, port: old.port, host: "127.0.0.3")
            let names = try Names(scenario)
            try names.set("pyroscope.test", "127.0.0.1")
            let gateway = try Self.gateway(
                scenario, "http://pyroscope.test:\(old.port)", #""client": "\#(client)", "max_connection_age": "0s""#,
                environment: names.environment)
            try gateway.send(1)
            try gateway.waitForDeliveries(1)
            try old.refuse()
            try names.set("pyroscope.test", "127.0.0.3")
            try gateway.send(1, from: 1)
            try gateway.waitForDeliveries(2)
            #expect(new.requests.count == 1)
        }
    }

    @Test("A busy HTTP/2 connection is replaced after max_connection_age, and closes after its last request")
    func busy() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try H2Upstream(scenario)
            let gateway = try Self.gateway(
                scenario, upstream.url, #""tls_config": { "ca_file": "ca.pem" }, "max_connection_age": "300ms", "remote_timeout": "60s""#)
            try gateway.send(1, to: "/ingest?name=hold")
            try upstream.wait(for: "the request that is held") { $0.contains { $0.target?.contains("hold") == true } }
            // This request keeps the first connection open all the time.
            let limit = Date(timeIntervalSinceNow: Project.patience)
            var count = 0
            while upstream.requests.last?.connection ?? 0 < 3, Date() < limit {
                count += 1
                try gateway.send(1, from: count)
                try gateway.waitForDeliveries(count)
            }
            let connections = upstream.requests.compactMap(\.connection)
            #expect(connections.max() ?? 0 >= 3 && connections == connections.sorted())
            try upstream.release()
            try gateway.waitForDeliveries(count + 1)
            try upstream.wait(for: "the end of the first connection") { $0.contains { $0.event == "closed" && $0.connection == 1 } }
            #expect(try gateway.metrics().retries() == 0)
        }
    }

    @Test("A silent HTTP/2 connection is replaced after an attempt without any answer")
    func silent() throws {
        try Scenario.run { scenario in
            _ = try Certificates(scenario)
            let upstream = try H2Upstream(scenario)
            let gateway = try Self.gateway(scenario, upstream.url, #""tls_config": { "ca_file": "ca.pem" }, "remote_timeout": "500ms""#)
            try gateway.send(2)
            try gateway.waitForDeliveries(2)
            try upstream.freeze()
            try gateway.send(6, from: 2)
            try gateway.waitForDeliveries(8)
            #expect(Set(upstream.requests.compactMap(\.connection)).count > 1)
        }
    }

    @Test("A resolver that hangs is asked once, however many profiles wait for it", arguments: [1, 40], ["auto", "libcurl"])
    func lookups(count: Int, client: String) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let names = try Names(scenario)
            try names.set("pyroscope.test", "hang")
            let gateway = try Self.gateway(
                scenario, "http://pyroscope.test:\(upstream.port)", #""client": "\#(client)", "remote_timeout": "60s""#,
                environment: names.environment)
            try gateway.send(count)
            try gateway.waitForMetrics("all of them") { $0.queued("up") == count }
            try names.set("pyroscope.test", "127.0.0.1")
            try gateway.waitForDeliveries(count)
            #expect(try names.lookups == 1)
            #expect(upstream.texts == GatewayProcess.bodies(0..<count))
        }
    }
}
