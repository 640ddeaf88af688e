import Testing

@testable import TestSupport

@Suite("External labels", .serialized)
struct ExternalLabelTests {
    /// A request target, and the one that an upstream gets once external labels are added.
    struct Rewriting: CustomTestStringConvertible, Sendable {
        let sent: String
        let forwarded: String
        var testDescription: String { sent }
    }

    @Test(
        "The name is rewritten only when an external label changes a value, and then keeps all other labels and gets no more",
        arguments: [
            Rewriting(sent: "/ingest?name=app", forwarded: "/ingest?name=app%7Benv%3Dstaging%2Czone%3Deu%7D"),
            Rewriting(
                sent: "/pyroscope/ingest?format=pprof&name=app%7bb%3d2%2ca%3d1%7d&from=1&x=%2f",
                forwarded:
                    "/pyroscope/ingest?format=pprof&name=app%7Ba%3D1%2Cb%3D2%2Cenv%3Dstaging%2Czone%3Deu%7D&from=1&x=%2f"
            ),
            Rewriting(
                sent: "/ingest?name=app{env=prod,zone=eu}",
                forwarded: "/ingest?name=app%7Benv%3Dstaging%2Czone%3Deu%7D"),
            Rewriting(
                sent: "/ingest?name=app{service_name=svc}",
                forwarded: "/ingest?name=app%7Benv%3Dstaging%2Cservice_name%3Dsvc%2Czone%3Deu%7D"),
            Rewriting(
                sent: "/ingest?name=app{service_name=svc,app_name=mine}&format=jfr",
                forwarded: "/ingest?name=app%7Bapp_name%3Dmine%2Cenv%3Dstaging%2Cservice_name%3Dsvc%2Czone%3Deu%7D&format=jfr"),
            Rewriting(
                sent: "/ingest?x=1&name=app{zone=eu,env=staging}&name=b", forwarded: "/ingest?x=1&name=app{zone=eu,env=staging}&name=b"),
            Rewriting(
                sent: "/ingest?name=+app{env=staging,+zone=%65u}&+=%2b", forwarded: "/ingest?name=+app{env=staging,+zone=%65u}&+=%2b"),
            Rewriting(
                sent: "/ingest?name=app{city=Z%C3%BCrich+x}",
                forwarded: "/ingest?name=app%7Bcity%3DZ%C3%BCrich%20x%2Cenv%3Dstaging%2Czone%3Deu%7D"),
        ])
    func rewriting(_ rewriting: Rewriting) throws {
        try Scenario.run { scenario in
            let (upstream, plain) = (try Recorder(scenario), try Recorder(scenario))
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "labelled": ReceiverEntry.writer(
                        upstream.url, config: "\"external_labels\": { \"zone\": \"eu\", \"env\": \"staging\" }"),
                    "plain": ReceiverEntry.writer(plain.url),
                ])
            #expect(try RawConnection(gateway.port).post(rewriting.sent, "a 1").status == 200)
            #expect(try upstream.wait(count: 1).map(\.target) == [rewriting.forwarded])
            #expect(try plain.wait(count: 1).map(\.target) == [rewriting.sent])
            try gateway.waitForMetrics("quiet") { $0.delivered("labelled") == 1 && $0.delivered("plain") == 1 }
        }
    }

    @Test("A label value that cannot be rewritten is rejected with the reason")
    func unwritable() throws {
        try Scenario.run { scenario in
            let (upstream, plain) = (try Recorder(scenario), try Recorder(scenario))
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "labelled": ReceiverEntry.writer(upstream.url, config: "\"external_labels\": { \"env\": \"staging\" }"),
                    "plain": ReceiverEntry.writer(plain.url),
                ])
            let target = "/ingest?name=app%7Bpod%3Dx%01y%7D"
            #expect(try RawConnection(gateway.port).post(target, "a 1").status == 200)
            let line = try gateway.log.wait(for: "profile dropped")
            for part in ["receiver=labelled", "reason=rejected", "label pod", "control character"] { #expect(line.contains(part)) }
            #expect(!line.contains("\u{1}"))
            let metrics = try gateway.waitForMetrics("quiet") { $0.delivered("plain") == 1 }
            #expect(metrics.dropped("labelled", "rejected") == 1)
            #expect(upstream.requests.isEmpty)
            #expect(plain.requests.map(\.target) == [target], "without external labels the same profile goes through")
        }
    }
}
