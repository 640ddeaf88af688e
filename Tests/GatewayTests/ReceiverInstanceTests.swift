import LinuxSystem
import PluginABI
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import SpoolStore
@testable import Telemetry

@Suite("A receiver whose plugin instance is replaced")
final class ReceiverInstanceTests {
    private var state = Receiver.State.working(limit: 4)
    private var config = ReceiverConfig(
        name: "r", retry: RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: 0), maxInFlight: 4)

    private func accept(_ count: Int) throws {
        for number in 0..<count { state.accept(try .sample(body: number), nil, config.queue, .at(1)) }
    }

    /// Replaces the serving instance by a new one.
    private func replace(by number: Int = 1, limit: Int = 4) {
        state.makeInstance(number, limit: limit)
        state.serve(number)
    }

    /// The instance's next step, or nil when its thread has to wait.
    private func step(of number: Int, at now: MonotonicTime = .at(1)) -> Receiver.Step? {
        if case .done(let step) = state.nextStep(of: number, config, now: now) { step } else { nil }
    }

    /// Opens the instance's next delivery, if one is due.
    private func deliver(of number: Int, at now: MonotonicTime = .at(1)) -> (token: UInt, progress: UInt64, sequence: UInt64)? {
        if case .deliver(let entry, _, let token) = step(of: number, at: now) { (token, entry.progress, entry.sequence) } else { nil }
    }

    private func settle(_ token: UInt?, _ outcome: DeliveryOutcome, at now: MonotonicTime = .at(1)) throws -> [Receiver.State.Event] {
        let token = try #require(token)
        let settled = state.finish(token, outcome, config, now)
        return try #require(settled).events
    }

    private static let retry = DeliveryOutcome(status: .retry, reason: "down")

    @Test("The memory of a backlog of 4 MiB is returned when it has ended, and again five seconds later at the earliest")
    func memoryReturn() throws {
        /// Delivers two profiles, and tells whether their memory is returned then.
        func returnsMemory(after bytes: Int, at now: MonotonicTime) throws -> Bool {
            for _ in 0..<2 { state.accept(try .sample(body: bytes / 2), nil, config.queue, now) }
            let tokens = [deliver(of: 0, at: now), deliver(of: 0, at: now)].map { $0?.token }
            for token in tokens { _ = try settle(token, DeliveryOutcome(status: .delivered), at: now) }
            if case .returnMemory? = step(of: 0, at: now) { return true }
            return false
        }
        #expect(try !returnsMemory(after: 3 << 20, at: .at(1)))
        #expect(try returnsMemory(after: 4 << 20, at: .at(2)))
        #expect(try !returnsMemory(after: 4 << 20, at: .at(6)))
        // The thread wakes up for what is still to be returned.
        #expect(state.mustWake(now: .at(6)) == false)
        #expect(step(of: 0, at: .at(6)) == nil && state.serving?.sleepsUntil == .at(7))
        if case .returnMemory? = step(of: 0, at: .at(7)) {} else { Issue.record("the memory is not returned") }
        #expect(step(of: 0, at: .at(20)) == nil)
    }

    @Test("The old instance gets no new delivery, is flushed after its last one and then destroyed, and the queue stays")
    func life() throws {
        try accept(3)
        let open = deliver(of: 0)
        replace()
        #expect(step(of: 0) == nil)
        let next = deliver(of: 1)
        #expect(state.serving?.openDeliveries == 1)
        #expect(try settle(open?.token, DeliveryOutcome(status: .delivered)) == [])
        guard case .flush(let token) = step(of: 0) else { throw Missing() }
        #expect(step(of: 0) == nil)
        #expect(try settle(token, DeliveryOutcome(status: .delivered)) == [])
        #expect(!state.isClosed)
        guard case .destroy = step(of: 0) else { throw Missing() }
        #expect(state.instances[0]?.oldestCall?.name == .destroy)
        #expect(try settle(next?.token, DeliveryOutcome(status: .delivered)) == [])
        #expect(state.account.delivered == 2)
        #expect(state.queue.count == 1)
    }

    @Test("Open deliveries of the old instance do not count against the new one's max_in_flight")
    func window() throws {
        try accept(10)
        for _ in 0..<4 { #expect(deliver(of: 0) != nil) }
        replace()
        for _ in 0..<4 { #expect(deliver(of: 1) != nil) }
        #expect(deliver(of: 1) == nil)
    }

    @Test("The new instance gets neither the failures nor the progress of the old one")
    func failures() throws {
        config.maxInFlight = 64
        state = .working(limit: 64)
        try accept(DeliveryPacing.retriesUntilFailing)
        let open = (0..<DeliveryPacing.retriesUntilFailing).map { _ in deliver(of: 0) }
        replace(limit: 64)
        for delivery in open {
            #expect(try settle(delivery?.token, DeliveryOutcome(status: .retry, progress: 7, reason: "down")) == [])
        }
        #expect(!state.isFailing)
        #expect(state.health.0 == .ok)
        #expect(state.serving?.lastError == "")
        #expect(deliver(of: 1, at: .at(100))?.progress == 0)
    }

    @Test("A retry of the old instance waits for its backoff, also when the new one has had retries")
    func retryOfFormer() throws {
        try accept(DeliveryPacing.retriesUntilFailing)
        let open = deliver(of: 0)
        replace()
        for _ in 1..<DeliveryPacing.retriesUntilFailing { #expect(try settle(deliver(of: 1)?.token, Self.retry) == []) }
        #expect(try settle(open?.token, DeliveryOutcome(status: .retry, reason: "of the old one")) == [])
        #expect(state.serving?.lastError == "down")
        #expect(!state.isFailing)
        #expect(deliver(of: 1) == nil)
        let due = (1..<DeliveryPacing.retriesUntilFailing).compactMap { _ in deliver(of: 1, at: .at(2)) }
        #expect(due.count == DeliveryPacing.retriesUntilFailing - 1)
        #expect(due.contains { $0.sequence == open?.sequence })
    }

    @Test("A sign of life of the old instance does not make the new one recover")
    func lifeOfFormer() throws {
        try accept(DeliveryPacing.retriesUntilFailing + 1)
        let open = deliver(of: 0)
        replace()
        for number in 1...DeliveryPacing.retriesUntilFailing {
            let events = try settle(deliver(of: 1)?.token, Self.retry)
            #expect(events == (number == DeliveryPacing.retriesUntilFailing ? [.failing] : []))
        }
        #expect(try settle(open?.token, DeliveryOutcome(status: .delivered)) == [])
        #expect(state.isFailing)
        #expect(state.account.delivered == 1)
    }

    @Test("A profile that waits for a retry is due at once at the new instance, without its progress")
    func retries() throws {
        try accept(1)
        _ = try settle(deliver(of: 0)?.token, DeliveryOutcome(status: .retry, progress: 5))
        #expect(deliver(of: 0) == nil)
        replace()
        #expect(deliver(of: 1)?.progress == 0)
    }

    @Test("Open deliveries of an abandoned instance go back to the queue, and its late outcomes are ignored")
    func givenUp() throws {
        try accept(2)
        let open = deliver(of: 0)
        replace()
        #expect(state.abandon(0).count == 1)
        let token = try #require(open?.token)
        #expect(state.finish(token, DeliveryOutcome(status: .delivered), config, .at(1)) == nil)
        guard case .leave = step(of: 0) else { throw Missing() }
        for _ in 0..<2 { _ = try settle(deliver(of: 1)?.token, DeliveryOutcome(status: .delivered)) }
        #expect(state.account.delivered == 2)
        #expect(state.queue.count == 0)
    }

    @Test("An instance that has never served gets no delivery, and is destroyed without a flush")
    func unused() throws {
        try accept(1)
        state.makeInstance(1, limit: 4)
        #expect(step(of: 1) == nil)
        state.instances[1]?.retire()
        guard case .destroy = step(of: 1) else { throw Missing() }
        #expect(deliver(of: 0) != nil)
    }

    @Test("Profiles wait until create of the instance has returned")
    func slowCreate() throws {
        state = Receiver.State(ReceiverConfig(name: "r"))
        state.instances[0] = InstanceState(maxInFlight: 4, now: .at(1))
        state.serve(0)
        try accept(2)
        #expect(state.health == (.failed, "create of the plugin has not returned"))
        #expect(deliver(of: 0) == nil)
        state.instances[0]?.created(nil)
        #expect(state.health.0 == .ok)
        #expect(deliver(of: 0) != nil)
    }

    @Test("An instance that is retired before its create returns is destroyed")
    func lateCreate() throws {
        state.instances[1] = InstanceState(maxInFlight: 4, now: .at(1))
        state.instances[1]?.retire()
        state.instances[1]?.created(nil)
        guard case .destroy = step(of: 1) else { throw Missing() }
    }

    @Test("A late error of create makes the receiver failed")
    func lateRefusal() throws {
        state = Receiver.State(ReceiverConfig(name: "r"))
        state.instances[0] = InstanceState(maxInFlight: 4, now: .at(1))
        state.serve(0)
        state.instances[0]?.created("no such table")
        #expect(state.health == (.failed, "no such table"))
    }

    @Test(
        "A call is overdue after delivery_timeout, and a create after 3 s",
        arguments: [(true, 2, false), (true, 3, true), (true, 4, true), (false, 9, false), (false, 10, true), (false, 11, true)]
            as [(Bool, Int64, Bool)])
    func overdue(isCreate: Bool, after: Int64, isOverdue: Bool) throws {
        if isCreate {
            state.instances[0] = InstanceState(maxInFlight: 4, now: .at(1))
        } else {
            try accept(1)
            #expect(deliver(of: 0) != nil)
        }
        let found = state.checkOverdue(.seconds(10), .at(1 + after))
        #expect(found.map(\.what) == (isOverdue ? [isCreate ? "create" : "deliver"] : []))
        #expect(state.checkOverdue(.seconds(10), .at(1 + after)).isEmpty)
        #expect(state.health.0 == (isOverdue || isCreate ? .failed : .ok))
    }

    @Test("A delivery that stays open is overdue even if its call has returned")
    func overdueDelivery() throws {
        try accept(1)
        let token = deliver(of: 0)?.token
        #expect(step(of: 0, at: .at(1)) == nil)
        #expect(state.checkOverdue(.seconds(10), .at(20)).map(\.what) == ["delivery"])
        _ = try settle(token, DeliveryOutcome(status: .delivered))
        #expect(state.checkOverdue(.seconds(10), .at(20)).isEmpty)
        #expect(state.health.0 == .ok)
    }

    @Test("A queue that becomes smaller drops its oldest profiles, unless it rejects", arguments: [(OnFull.dropOldest, 2), (.reject, 5)])
    func smaller(onFull: OnFull, left: Int) throws {
        try accept(5)
        state.evict(QueueConfig(maxProfiles: 2, onFull: onFull))
        #expect(state.queue.count == left)
        #expect(state.account.dropped[.queueFull] ?? 0 == 5 - left)
    }

    /// The error of a step that is not the expected one.
    private struct Missing: Error {}
}

@Suite("The metrics of successive instances")
struct SuccessiveMetricsTests {
    /// The samples on the metrics page whose lines begin with this name.
    private func value(_ metrics: PluginMetrics, _ name: String) -> [String] {
        var page = Exposition()
        metrics.collect(receiver: "r", into: &page)
        return page.text.split(separator: "\n").filter { $0.hasPrefix(name) }.map(String.init)
    }

    @Test("A counter continues when it is not declared again, and also when the old instance declares it late")
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

    @Test("A gauge ends with its instance, and counters that are not declared again do not accumulate")
    func bounds() throws {
        let first = PluginMetrics()
        first.observe(try first.declare(.gauge, name: "level", help: "", labels: []), 2)
        var last = PluginMetrics(continuing: first)
        #expect(value(last, "level") == [])
        for round in 0..<3 {
            for number in 0..<PluginMetrics.limit {
                _ = try last.declare(.counter, name: "a_total", help: "", labels: [MetricLabel(name: "n", value: "\(round) \(number)")])
            }
            last = PluginMetrics(continuing: last)
        }
        #expect(value(last, "a_total").count <= 2 * PluginMetrics.limit)
    }
}
