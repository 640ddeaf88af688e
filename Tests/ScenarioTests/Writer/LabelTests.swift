import Foundation
import Testing

@testable import TestSupport

@Suite("Labels that name= of /ingest cannot carry", .serialized)
struct LabelTests {
    private static let labels = "\"external_labels\": { \"env\": \"staging\" }"

    /// Sends a file with this `unsafe_labels` policy, and waits for its outcome.
    private func run(
        _ policy: String, target: String, file: String, _ options: [String] = [], _ body: (GatewayProcess, Recorder, Data) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(upstream.url, config: "\(Self.labels), \(policy)"))
            #expect(try Curl.post(scenario, gateway.port, target, file: file, options).status == 200)
            try gateway.waitForOutcomes()
            try body(gateway, upstream, try Data(contentsOf: URL(fileURLWithPath: file)))
        }
    }

    @Test("With push, a plain pprof is sent as a Push with all its labels and bytes")
    func push() throws {
        try Scenario.run { scenario in
            let tap = try Tap(scenario, "tap")
            let gateway = try GatewayProcess(
                scenario, up: ReceiverEntry.endpoint(tap.url, config: "\(Self.labels), \"unsafe_labels\": \"push\""))
            let fixture = Fixture(name: "go-cpu.pprof")
            let options = ["-H", "X-Scope-OrgID: team-a"]
            let target = "/ingest?format=pprof&name=app%7Bpod%3Dx%01y%2Cenv%3Dprod%7D"
            #expect(try Curl.post(scenario, gateway.port, target, file: fixture.path, options).status == 200)
            try gateway.waitForDeliveries(1)
            let request = try #require(try tap.wait(count: 1).first)
            #expect(request.target == GatewayProcess.pushPath)
            #expect(request.header("X-Scope-OrgID") == ["team-a"])
            #expect(request.header("Content-Type") == ["application/proto"])
            let series = try #require(try request.series.first)
            #expect(try request.series.count == 1)
            #expect(series.samples.map(\.rawProfile) == [try fixture.bytes()])
            let labels = Dictionary(uniqueKeysWithValues: series.labels.map { ($0.name, $0.value) })
            #expect(labels["pod"] == "x\u{1}y")
            #expect(labels["env"] == "staging")
            #expect(labels["service_name"] == "app")
            #expect(labels["__name__"] != nil)
        }
    }

    @Test("With push, a profile whose labels can be carried stays an /ingest request")
    func safe() throws {
        let file = Fixture(name: "go-cpu.pprof").path
        try run("\"unsafe_labels\": \"push\"", target: "/ingest?format=pprof&name=app", file: file) { gateway, upstream, _ in
            #expect(upstream.requests.map { $0.target.hasPrefix("/ingest?format=pprof&name=app%7B") } == [true])
            try gateway.waitForDeliveries(1)
        }
    }

    @Test(
        "With reject, which is the default, and for bodies other than plain pprof, the profile is rejected with the reason",
        arguments: [
            ("", "go-cpu.pprof", "&format=pprof", []), ("\"unsafe_labels\": \"reject\"", "go-cpu.pprof", "&format=pprof", []),
            ("\"unsafe_labels\": \"push\"", "python.folded", "", []),
            ("\"unsafe_labels\": \"push\"", "java.jfr", "&format=jfr", []),
            ("\"unsafe_labels\": \"push\"", "go-cpu.pprof", "", ["-H", "Content-Type: multipart/form-data; boundary=x"]),
        ])
    func reject(policy: String, fixture: String, query: String, options: [String]) throws {
        let target = "/ingest?name=app%7Bpod%3Dx%01y%7D\(query)"
        try run(policy, target: target, file: Fixture(name: fixture).path, options) { gateway, upstream, _ in
            #expect(try gateway.metrics().dropped("up", "rejected") == 1)
            #expect(upstream.requests.isEmpty)
            try gateway.log.wait(for: "profile dropped", "label pod", "control character")
        }
    }
}
