import LinuxSystem
import PluginABI
import Testing

@testable import Gateway

@Suite("A receiver whose plugin instance is replaced")
final class ReceiverReplacementTests {
    private var state = Receiver.State(pace: Pace(limit: 4))
    private var config = ReceiverConfig(
        name: "r", retry: RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: 0), maxInFlight: 4)

    private func accept(_ count: Int) throws {
        for number in 0..<count { state.accept(try .sample(body: number), nil, config.queue, .at(1)) }
    }

    private func step(of number: Int, at now: MonotonicTime = .at(1)) -> Receiver.Step? {
        if case .done(let step) = state.nextStep(of: number, config, now: now) { step } else { nil }
    }

    private func deliver(of number: Int, at now: MonotonicTime = .at(1)) -> (token: UInt, progress: UInt64)? {
        if case .deliver(let entry, _, let token) = step(of: number, at: now) { (token, entry.progress) } else { nil }
    }

    private func settle(_ token: UInt?, _ outcome: DeliveryOutcome) throws -> [Receiver.State.Event] {
        let token = try #require(token)
        let settled = state.settleAny(token, outcome, config, .at(1))
        return try #require(settled).events
    }

    @Test("The old one gets nothing new, is flushed after its last delivery, and then destroyed; the queue stays")
    func life() throws {
        try accept(3)
        let open = deliver(of: 0)
        state.hand(to: 1, 4)
        #expect(step(of: 0) == nil)
        let next = deliver(of: 1)
        #expect(state.open.deliveryCount == 1)
        #expect(try settle(open?.token, DeliveryOutcome(status: .delivered)) == [])
        guard case .flush(let token) = step(of: 0) else { throw Missing() }
        #expect(step(of: 0) == nil)
        #expect(try settle(token, DeliveryOutcome(status: .delivered)) == [])
        #expect(state.phase == .running)
        guard case .end = step(of: 0) else { throw Missing() }
        #expect(try settle(next?.token, DeliveryOutcome(status: .delivered)) == [])
        #expect(state.account.delivered == 2)
        #expect(state.queue.count == 1)
    }

    @Test("Open deliveries of the old one do not count against the new one's max_in_flight")
    func window() throws {
        try accept(10)
        for _ in 0..<4 { #expect(deliver(of: 0) != nil) }
        state.hand(to: 1, 4)
        for _ in 0..<4 { #expect(deliver(of: 1) != nil) }
        #expect(deliver(of: 1) == nil)
    }

    @Test("What the old one's failures say is not held against the new one, nor is its progress handed over")
    func failures() throws {
        try accept(Pace.retriesUntilFailing)
        config.maxInFlight = 64
        state.pace = Pace(limit: 64)
        let open = (0..<Pace.retriesUntilFailing).map { _ in deliver(of: 0) }
        state.hand(to: 1, 64)
        for delivery in open {
            #expect(try settle(delivery?.token, DeliveryOutcome(status: .retry, progress: 7, reason: "down")) == [])
        }
        #expect(!state.pace.isFailing)
        #expect(state.health.0 == .ok)
        #expect(deliver(of: 1, at: .at(100))?.progress == 0)
    }

    @Test("What waits for a retry is due at once, without the progress that it had")
    func retries() throws {
        try accept(1)
        _ = try settle(deliver(of: 0)?.token, DeliveryOutcome(status: .retry, progress: 5))
        #expect(deliver(of: 0) == nil)
        state.hand(to: 1, 4)
        #expect(deliver(of: 1)?.progress == 0)
    }

    @Test("What a former one does not give back is taken from it, and its late outcome means nothing")
    func givenUp() throws {
        try accept(2)
        let open = deliver(of: 0)
        state.hand(to: 1, 4)
        #expect(state.giveUp(0).count == 1)
        let token = try #require(open?.token)
        #expect(state.settleAny(token, DeliveryOutcome(status: .delivered), config, .at(1)) == nil)
        guard case .leave = step(of: 0) else { throw Missing() }
        for _ in 0..<2 { _ = try settle(deliver(of: 1)?.token, DeliveryOutcome(status: .delivered)) }
        #expect(state.account.delivered == 2)
        #expect(state.queue.count == 0)
    }

    @Test("An instance that is not at work yet waits, and ends without a flush when it is not wanted")
    func unused() throws {
        try accept(1)
        #expect(step(of: 1) == nil)
        state.former[1] = FormerInstance(isFlushed: true)
        guard case .end = step(of: 1) else { throw Missing() }
        #expect(deliver(of: 0) != nil)
    }

    @Test("A smaller queue drops the oldest that wait, unless it rejects", arguments: [(OnFull.dropOldest, 2), (.reject, 5)])
    func smaller(onFull: OnFull, left: Int) throws {
        try accept(5)
        state.evict(QueueConfig(maxProfiles: 2, onFull: onFull))
        #expect(state.queue.count == left)
        #expect(state.account.dropped[.queueFull] ?? 0 == 5 - left)
    }

    private struct Missing: Error {}
}

@Suite("The metrics of one instance after another")
struct SuccessiveMetricsTests {
    private func value(_ metrics: PluginMetrics, _ name: String) -> [String] {
        var page = Exposition()
        metrics.collect(receiver: "r", into: &page)
        return page.text.split(separator: "\n").filter { $0.hasPrefix(name) }.map(String.init)
    }

    @Test("A counter goes on, whether it is declared again or not, and also one that the old instance declares late")
    func counters() throws {
        let first = PluginMetrics()
        first.observe(try first.declare(.counter, name: "a_total", help: "", labels: []), 2)
        let second = PluginMetrics(continuing: first)
        first.observe(try first.declare(.counter, name: "late_total", help: "", labels: []), 3)
        #expect(value(second, "a_total") == ["a_total{receiver=\"r\"} 2"])
        for name in ["a_total", "late_total"] { second.observe(try second.declare(.counter, name: name, help: "", labels: []), 1) }
        #expect(value(second, "a_total") == ["a_total{receiver=\"r\"} 3"])
        #expect(value(second, "late_total") == ["late_total{receiver=\"r\"} 4"])
        #expect(value(PluginMetrics(continuing: second), "late_total") == ["late_total{receiver=\"r\"} 4"])
    }

    @Test("A gauge is its own instance's, and names that come and go do not pile up")
    func bounds() throws {
        let first = PluginMetrics()
        first.observe(try first.declare(.gauge, name: "level", help: "", labels: []), 2)
        var last = PluginMetrics(continuing: first)
        #expect(value(last, "level") == [])
        for round in 0..<3 {
            for number in 0..<PluginMetrics.limit {
                _ = try last.declare(.counter, name: "a_total", help: "", labels: [Label(name: "n", value: "\(round) \(number)")])
            }
            last = PluginMetrics(continuing: last)
        }
        #expect(value(last, "a_total").count <= 2 * PluginMetrics.limit)
    }
}
