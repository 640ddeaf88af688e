import Foundation
import Testing

@testable import TestSupport

@Suite("Forwarding of Pushes", .serialized)
struct PushForwardingTests {
    /// Runs a test against a gateway with one upstream.
    private func run(_ entry: (Recorder) -> String = { ReceiverEntry.writer($0.url) }, _ body: (GatewayProcess, Recorder) throws -> Void)
        throws
    {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try body(try GatewayProcess(scenario, receivers: ["up": entry(upstream)]), upstream)
        }
    }

    @Test("An upstream gets an uncompressed Connect call in proto with the tenant, whatever the sender's codec")
    func head() throws {
        try run { gateway, upstream in
            let headers =
                "X-Scope-OrgID: team-a\r\nConnect-Timeout-Ms: 60000\r\nAuthorization: Basic s3cret\r\nConnect-Protocol-Version: 1\r\n"
            #expect(try gateway.push(.numbered(1), headers: headers).status == 200)
            let request = try #require(try upstream.wait(count: 1).first)
            #expect(request.method == "POST")
            #expect(request.target == GatewayProcess.pushPath)
            #expect(request.header("Content-Type") == ["application/proto"])
            #expect(request.header("Connect-Protocol-Version") == ["1"])
            #expect(request.header("X-Scope-OrgID") == ["team-a"])
            #expect(request.header("Connect-Timeout-Ms") == ["10000"], "the time of this attempt, remote_timeout, not the sender's")
            for name in ["Content-Encoding", "Expect", "Authorization"] {
                #expect(request.header(name).isEmpty, "\(name)")
            }
        }
    }

    @Test("Each series becomes one profile, and its samples keep their order, IDs and bytes")
    func series() throws {
        try run { gateway, upstream in
            let series = [
                PushSeries(["__name__": "cpu", "service_name": "a"], samples: ["one": "1", "two": "2", "": "3"]),
                PushSeries(["service_name": "b"], samples: ["three": ""]),
                PushSeries([:], samples: ["four": "\u{0}\u{1}\u{7f}\n\u{e9}"]),
            ]
            #expect(try RawConnection(gateway.port).push(series).status == 200)
            let metrics = try gateway.waitForMetrics("3 deliveries") { $0.delivered("up") == 3 }
            #expect(metrics["gateway_profiles_received_total{listener=\"default\",api=\"push\"}"] == 3)
            let got = try upstream.wait(count: 3).map { try $0.series }
            #expect(got.allSatisfy { $0.count == 1 }, "one series a request, as Alloy does")
            #expect(Set(got.flatMap { $0 }) == Set(series), "no service_name is invented")
        }
    }

    @Test("Reserved labels except __name__ and __delta__ are dropped, and others are kept and sorted")
    func reservedLabels() throws {
        try run { gateway, upstream in
            let labels: KeyValuePairs = [
                "zone": "", "__session_id__": "x", "__name__": "cpu", "__delta__": "false", "__": "x", "__period__": "x", "_a": "{,}=\"",
                "service.name": "\u{1F525} caf\u{e9}", "a-b c": " spaced ",
            ]
            #expect(try gateway.push(PushSeries(labels, samples: ["": "x"])).status == 200)
            let series = try #require(try upstream.wait(count: 1).first?.series.first)
            #expect(
                series.labels.map { "\($0.name)=\($0.value)" } == [
                    "__delta__=false", "__name__=cpu", "_a={,}=\"", "a-b c= spaced ", "service.name=\u{1F525} caf\u{e9}", "zone=",
                ])
        }
    }

    @Test("External labels override the sender's, and are added to every series")
    func externalLabels() throws {
        let entry = { (upstream: Recorder) in
            ReceiverEntry.writer(upstream.url, config: "\"external_labels\": { \"env\": \"prod\", \"zone\": \"eu\" }")
        }
        try run(entry) { gateway, upstream in
            let series = [PushSeries(["__name__": "cpu", "env": "dev"], samples: ["": "1"]), PushSeries([:], samples: ["": "2"])]
            #expect(try RawConnection(gateway.port).push(series).status == 200)
            let labels = try upstream.wait(count: 2).flatMap { try $0.series }.map { $0.labels.map { "\($0.name)=\($0.value)" } }
            #expect(Set(labels) == [["__name__=cpu", "env=prod", "zone=eu"], ["env=prod", "zone=eu"]])
        }
    }

    @Test("A sample of many megabytes is delivered and archived byte for byte")
    func largeSample() throws {
        try Scenario.run { scenario in
            let tap = try Tap(scenario, "upstream")
            let gateway = try GatewayProcess(
                scenario, receivers: ["up": ReceiverEntry.writer(tap.url), "archive": ReceiverEntry.archive()], http: LargePushTests.patient
            )
            var series = PushSeries(samples: ["": ""])
            let bytes = try Fixture(name: "java.jfr").bytes()
            series.samples[0].rawProfile = Data((0..<40).flatMap { _ in bytes })
            #expect(try gateway.push(series, PushSeries(samples: ["small": "x"])).status == 200)
            let got = try tap.wait(count: 2).flatMap { try $0.series }
            #expect(got.contains { $0.samples == series.samples })
            try gateway.waitForMetrics("2 archived") { $0.delivered("archive") == 2 }
            let sizes = try scenario.files(under: "archive").filter { $0.hasSuffix(".pprof") }.map {
                try scenario.bytes(of: "archive/\($0)")
            }
            #expect(sizes.contains(series.samples[0].rawProfile))
        }
    }

    @Test("With a refusing and a silent upstream every Push gets 200, and no other receiver is affected")
    func isolation() throws {
        try Scenario.run { scenario in
            let (refusing, silent, healthy) = (try Recorder(scenario), try Recorder(scenario), try Recorder(scenario))
            try refusing.refuse()
            try silent.hold()
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "a-refusing": ReceiverEntry.writer(refusing.url, more: ReceiverEntry.quickRetry),
                    "b-silent": ReceiverEntry.writer(silent.url, more: ReceiverEntry.quickRetry),
                    "c-healthy": ReceiverEntry.writer(healthy.url),
                    "d-archive": ReceiverEntry.archive(),
                ])
            let connection = try RawConnection(gateway.port)
            let statuses = try (0..<500).map { try connection.push([.numbered(2 * $0), .numbered(2 * $0 + 1)]).status }
            #expect(statuses.allSatisfy { $0 == 200 })
            let metrics = try gateway.waitForMetrics("1000 deliveries to the living") {
                $0.delivered("c-healthy") == 1000 && $0.delivered("d-archive") == 1000
            }
            let once = Dictionary(uniqueKeysWithValues: (0..<1000).map { ("profile \($0)", 1) })
            #expect(try healthy.wait(forSamples: Set(once.keys)) == once)
            let archived = try scenario.files(under: "archive").filter { $0.hasSuffix(".pprof") }.map {
                try scenario.bytes(of: "archive/\($0)")
            }
            #expect(archived.count == 1000)
            #expect(Set(archived) == Set(once.keys.map { Data($0.utf8) }))
            for dead in ["a-refusing", "b-silent"] { #expect(metrics.queued(dead) == 1000 && metrics.dropped(dead) == 0) }

            try refusing.listen()
            try silent.answer()
            try gateway.waitForMetrics("1000 deliveries to those that came back") {
                $0.delivered("a-refusing") == 1000 && $0.delivered("b-silent") == 1000
            }
            for back in [refusing, silent] { #expect(try Set(back.wait(forSamples: Set(once.keys)).keys) == Set(once.keys)) }
            #expect(try healthy.wait(forSamples: Set(once.keys)) == once, "nobody was sent anything twice for another's sake")
        }
    }
}
