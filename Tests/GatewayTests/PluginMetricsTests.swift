import PluginABI
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Telemetry

@Suite("Metrics that plugins declare")
struct PluginMetricsTests {
    private let metrics = PluginMetrics()

    private func declare(_ kind: gw_metric_kind, _ name: String, _ labels: [(String, String)] = []) throws -> UInt32 {
        try metrics.declare(kind, name: name, help: "Help.", labels: labels.map { MetricLabel(name: $0.0, value: $0.1) })
    }

    @Test("Ids count from 1, and the same name and labels are the same metric")
    func ids() throws {
        #expect(try declare(.counter, "a", [("x", "1")]) == 1)
        #expect(try declare(.counter, "a", [("x", "2")]) == 2)
        #expect(try declare(.counter, "a", [("x", "1")]) == 1)
        #expect(try declare(.gauge, "b") == 3)
    }

    @Test("A declared name is refused with another kind and other labels")
    func otherKind() throws {
        _ = try declare(.counter, "a", [("x", "1")])
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.gauge, "a", [("x", "2")]) }
    }

    @Test("A declared name is refused with another kind and the same labels")
    func otherKindSameLabels() throws {
        _ = try declare(.counter, "a", [("x", "1")])
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.gauge, "a", [("x", "1")]) }
    }

    @Test("A label that occurs twice, or that the gateway adds itself, is refused")
    func doubledLabel() {
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, "a", [("receiver", "other")]) }
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.seconds, "b", [("le", "1")]) }
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, "c", [("x", "1"), ("x", "2")]) }
    }

    @Test("Metrics beyond the limit are refused, and declared ones can be declared again")
    func limit() throws {
        for number in 1...PluginMetrics.limit { #expect(try declare(.counter, "m\(number)") == UInt32(number)) }
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, "more") }
        #expect(try declare(.counter, "m\(PluginMetrics.limit)") == UInt32(PluginMetrics.limit))
    }

    @Test("A name that Prometheus does not allow is refused", arguments: ["", "1a", "a-b", "a b", "ü", "a\n", "a{", "a\0"])
    func badName(name: String) {
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, name) }
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, "a", [(name, "")]) }
    }

    @Test("A metric's name may have a colon, but a label's name may not")
    func colon() throws {
        #expect(try declare(.counter, "a:b") == 1)
        #expect(throws: PluginMetrics.Refusal.self) { try declare(.counter, "a", [("a:b", "")]) }
    }

    @Test("An unknown kind is refused")
    func unknownKind() throws {
        let kind = try #require(gw_metric_kind(rawValue: 3))
        #expect(throws: PluginMetrics.Refusal.self) { try declare(kind, "a") }
    }

    @Test("Counters never fall, gauges are set, durations are summed, and each sample has its receiver as a label")
    func collect() throws {
        let counter = try declare(.counter, "c", [("x", "1")])
        let gauge = try declare(.gauge, "g")
        let seconds = try declare(.seconds, "s")
        for value: Int64 in [2, -5, 3] { metrics.observe(counter, value) }
        for value: Int64 in [7, -4] { metrics.observe(gauge, value) }
        for value: Int64 in [1_500_000_000, -1] { metrics.observe(seconds, value) }
        var page = Exposition()
        metrics.collect(receiver: "r", into: &page)
        let lines = page.text.split(separator: "\n")
        #expect(lines.contains(#"c{receiver="r",x="1"} 5"#))
        #expect(lines.contains(#"g{receiver="r"} -4"#))
        #expect(lines.contains(#"s_sum{receiver="r"} 1.5"#))
        #expect(lines.contains(#"s_count{receiver="r"} 2"#))
    }

    @Test("Observing an undeclared id does nothing", arguments: [0, 1, 1024, 1025, .max] as [UInt32])
    func unknownId(id: UInt32) {
        metrics.observe(id, 1)
        var page = Exposition()
        metrics.collect(receiver: "r", into: &page)
        #expect(page.text.isEmpty)
    }
}
