import Foundation
import Testing

@testable import TestSupport

@Suite("The label app_name, kept or added as Alloy adds it", .serialized)
struct AppNameTests {
    private static let alloy = "\"app_name\": \"alloy\""
    private static let labels = "\"external_labels\": { \"env\": \"staging\" }"

    /// A `name`, and those that upstreams get, decoded; the format of the profile.
    struct Naming: CustomTestStringConvertible, Sendable {
        let sent: String
        var format = "pprof"
        let alloy: String
        let labelled: String
        var testDescription: String { "\(sent) \(format)" }
    }

    /// The decoded `name` of a request.
    private func name(_ target: String) -> String? { URLComponents(string: target)?.queryItems?.first { $0.name == "name" }?.value }

    @Test(
        "From /ingest, alloy sends service_name always, and app_name where the sender has a service_name, but not with a JFR",
        arguments: [
            Naming(sent: "app", alloy: "app{service_name=app}", labelled: "app{env=staging,service_name=app}"),
            Naming(sent: "app", format: "folded", alloy: "app{service_name=app}", labelled: "app{env=staging,service_name=app}"),
            Naming(sent: "app", format: "jfr", alloy: "app{service_name=app}", labelled: "app{env=staging,service_name=app}"),
            Naming(
                sent: "app{service_name=svc}", alloy: "app{app_name=app,service_name=svc}",
                labelled: "app{app_name=app,env=staging,service_name=svc}"),
            Naming(
                sent: "app{service_name=svc}", format: "jfr", alloy: "app{service_name=svc}",
                labelled: "app{env=staging,service_name=svc}"),
            Naming(
                sent: "app{service_name=svc,app_name=old}", alloy: "app{app_name=app,service_name=svc}",
                labelled: "app{app_name=app,env=staging,service_name=svc}"),
            Naming(
                sent: "app{service_name=svc,app_name=app}", alloy: "app{service_name=svc,app_name=app}",
                labelled: "app{app_name=app,env=staging,service_name=svc}"),
            Naming(
                sent: "app{app_name=old,env=prod}", alloy: "app{app_name=old,env=prod,service_name=app}",
                labelled: "app{app_name=old,env=staging,service_name=app}"),
        ])
    func ingest(_ naming: Naming) throws {
        try Scenario.run { scenario in
            let (alloy, labelled, kept) = (try Recorder(scenario), try Recorder(scenario), try Recorder(scenario))
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "alloy": ReceiverEntry.writer(alloy.url, config: Self.alloy),
                    "labelled": ReceiverEntry.writer(labelled.url, config: "\(Self.alloy), \(Self.labels)"),
                    "kept": ReceiverEntry.writer(kept.url, config: "\"app_name\": \"keep\""),
                ])
            let target = "/ingest?name=\(naming.sent)&format=\(naming.format)&x=%2f"
            #expect(try RawConnection(gateway.port).post(target, "a 1").status == 200)
            #expect(try kept.wait(count: 1).map(\.target) == [target], "nothing is added")
            for (upstream, wanted) in [(alloy, naming.alloy), (labelled, naming.labelled)] {
                let got = try #require(try upstream.wait(count: 1).first).target
                #expect(got.hasSuffix("&format=\(naming.format)&x=%2f"))
                #expect(name(got) == wanted)
            }
            try gateway.waitForMetrics("3 deliveries") { metrics in ["alloy", "labelled", "kept"].allSatisfy { metrics.delivered($0) == 1 }
            }
        }
    }

    @Test("From Push, alloy adds app_name to each series with a service_name, and external labels still win")
    func push() throws {
        try Scenario.run { scenario in
            let (alloy, labelled, kept) = (try Recorder(scenario), try Recorder(scenario), try Recorder(scenario))
            let mine = "\"external_labels\": { \"app_name\": \"mine\", \"env\": \"staging\" }"
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "alloy": ReceiverEntry.writer(alloy.url, config: Self.alloy),
                    "labelled": ReceiverEntry.writer(labelled.url, config: "\(Self.alloy), \(mine)"),
                    "kept": ReceiverEntry.writer(kept.url, config: Self.labels),
                ])
            let series = [
                PushSeries(["__name__": "cpu", "service_name": "a"], samples: ["": "1"]),
                PushSeries(["__name__": "cpu", "service_name": "b", "app_name": "old"], samples: ["": "2"]),
                PushSeries(["__name__": "cpu", "app_name": "old"], samples: ["": "3"]),
                PushSeries(["service_name": "c", "app_name": "old"], samples: ["": "4"]),
            ]
            #expect(try RawConnection(gateway.port).push(series).status == 200)
            #expect(
                try sets(alloy) == [
                    ["__name__=cpu", "app_name=cpu", "service_name=a"], ["__name__=cpu", "app_name=cpu", "service_name=b"],
                    ["__name__=cpu", "app_name=old"], ["service_name=c"],
                ], "without a __name__ Alloy's app_name is empty, which is none")
            #expect(
                try sets(labelled) == [
                    ["__name__=cpu", "app_name=mine", "env=staging", "service_name=a"],
                    ["__name__=cpu", "app_name=mine", "env=staging", "service_name=b"],
                    ["__name__=cpu", "app_name=mine", "env=staging"], ["app_name=mine", "env=staging", "service_name=c"],
                ])
            #expect(
                try sets(kept) == [
                    ["__name__=cpu", "env=staging", "service_name=a"], ["__name__=cpu", "app_name=old", "env=staging", "service_name=b"],
                    ["__name__=cpu", "app_name=old", "env=staging"], ["app_name=old", "env=staging", "service_name=c"],
                ])
        }
    }

    /// The label sets of the four series that an upstream gets.
    private func sets(_ upstream: Recorder) throws -> Set<[String]> {
        Set(try upstream.wait(count: 4).flatMap { try $0.series }.map { $0.labels.map { "\($0.name)=\($0.value)" } })
    }

    @Test(
        "What unsafe_labels sends by Push has the labels of /ingest and the service_name that a Push needs",
        arguments: [
            ("app%7Bpod%3Dx%01y%7D", "keep", ["service_name=app"]), ("app%7Bpod%3Dx%01y%7D", "alloy", ["service_name=app"]),
            ("app%7Bpod%3Dx%01y,service_name%3Dsvc%7D", "keep", ["service_name=svc"]),
            ("app%7Bpod%3Dx%01y,service_name%3Dsvc%7D", "alloy", ["app_name=app", "service_name=svc"]),
        ])
    func unsafeLabels(name: String, policy: String, added: [String]) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let config = "\(Self.labels), \"unsafe_labels\": \"push\", \"app_name\": \"\(policy)\""
            let gateway = try GatewayProcess(scenario, receivers: ["up": ReceiverEntry.writer(upstream.url, config: config)])
            #expect(try RawConnection(gateway.port).post("/ingest?format=pprof&name=\(name)", "a 1").status == 200)
            let series = try #require(try upstream.wait(count: 1).first?.series.first)
            let labels = series.labels.map { "\($0.name)=\($0.value)" }
            #expect(labels == (["__name__=app", "env=staging", "pod=x\u{1}y"] + added).sorted())
        }
    }
}
