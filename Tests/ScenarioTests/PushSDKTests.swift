import Foundation
import Testing

@testable import TestSupport

@Suite("The pyroscope-io SDK", .serialized)
struct PushSDKTests {
    /// The series with the labels that an upstream gets, sorted.
    private static func filtered(_ series: PushSeries) -> PushSeries {
        var series = series
        series.labels = series.labels.filter { !$0.name.hasPrefix("__") || ["__name__", "__delta__"].contains($0.name) }
            .sorted { $0.name < $1.name }
        return series
    }

    @Test("Two upstreams and an archive get the SDK's series, labels, IDs, pprof bytes and tenant")
    func sdk() throws {
        try Scenario.run { scenario in
            let upstreams = [try Tap(scenario, "first"), try Tap(scenario, "second")]
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "first": ReceiverEntry.writer(upstreams[0].url), "second": ReceiverEntry.writer(upstreams[1].url),
                    "archive": ReceiverEntry.archive(),
                ])
            let sent = try Tap(scenario, "sent", to: gateway.port)
            let program = try scenario.start([try Project.python(), "\(Project.servers)/profiled.py", sent.url, "team-a"])
            _ = try upstreams.map { try $0.wait(count: 2) }
            program.end()

            let requests = try sent.wait(count: 2)
            #expect(requests.allSatisfy { $0.target == GatewayProcess.pushPath && $0.header("X-Scope-OrgID") == ["team-a"] })
            #expect(requests.allSatisfy { $0.header("Content-Encoding") == ["gzip"] }, "it compresses, so what follows was inflated")
            let series = try requests.flatMap { try $0.series }
            try gateway.waitForMetrics("all of it") { metrics in metrics.receivers.allSatisfy { metrics.delivered($0) >= series.count } }
            try Self.check(series)
            for upstream in upstreams {
                let got = try upstream.wait(count: series.count)
                #expect(try Set(got.flatMap { try $0.series }).isSuperset(of: series.map(Self.filtered)))
                #expect(got.allSatisfy { $0.header("X-Scope-OrgID") == ["team-a"] && $0.header("Content-Encoding").isEmpty })
            }
            let files = scenario.files(under: "archive").filter { $0.hasSuffix(".pprof") }
            #expect(files.allSatisfy { $0.hasPrefix("team-a/checkout/") })
            #expect(
                try Set(files.map { try scenario.bytes(of: "archive/\($0)") }).isSuperset(of: series.flatMap(\.samples).map(\.rawProfile)))
        }
    }

    /// Checks that the SDK's profiles are what this test expects.
    private static func check(_ series: [PushSeries]) throws {
        for series in series {
            let labels = Dictionary(series.labels.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
            #expect(labels["service_name"] == "checkout")
            #expect(labels["region"] == "eu-west")
            #expect(labels["build"] == "1.2.3+\u{e9}")
            #expect(labels["__name__"] != nil)
            let sample = try #require(series.samples.first)
            #expect(UUID(uuidString: sample.ID) != nil)
            #expect(!sample.rawProfile.isEmpty)
        }
    }
}
