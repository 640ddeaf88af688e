import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import TestSupport

@Suite("A receiver's decisions")
final class ReceiverStateTests {
    private static let limit = 4
    private var state = Receiver.State.working(limit: limit)
    private var config = ReceiverConfig(
        name: "r", retry: RetryPolicy(minimum: .seconds(1), maximum: .seconds(1), retries: 0), maxInFlight: limit)

    private struct Delivery {
        let profile: ReceivedProfile
        let token: UInt
        let attempt: Int
        let progress: UInt64
    }

    private func accept(_ count: Int = 1, body: Int = 0, at now: MonotonicTime = .at(1)) throws {
        for _ in 0..<count { state.accept(try .sample(body: body), nil, config.queue, now) }
    }

    /// Opens the delivery that is due now, or returns nil when there is none.
    private func next(at now: MonotonicTime = .at(1)) -> Delivery? {
        guard case .done(.deliver(let entry, _, let token)) = state.nextStep(config, now: now), let profile = entry.profile else {
            return nil
        }
        return Delivery(profile: profile, token: token, attempt: entry.attempts, progress: entry.progress)
    }

    @discardableResult
    private func settle(_ token: UInt?, _ outcome: DeliveryOutcome, at now: MonotonicTime = .at(1)) throws -> [Receiver.State.Event] {
        let settled = state.finish(try #require(token), outcome, config, now)
        return try #require(settled).events
    }

    /// True when everything that was accepted is delivered, queued or dropped.
    private var isBalanced: Bool {
        state.account.accepted == state.account.delivered + state.queue.count + state.account.dropped.values.reduce(0, +)
    }

    private static let delivered = DeliveryOutcome(status: .delivered)
    private static let rejected = DeliveryOutcome(status: .rejected, reason: "no")
    private static let retry = DeliveryOutcome(status: .retry, reason: "later")

    // MARK: In

    @Test("A profile larger than max_bytes is dropped and evicts no other", arguments: [(-1, true), (0, true), (1, false)])
    func tooLarge(excess: Int, isKept: Bool) throws {
        config.queue.maxBytes = try ReceivedProfile.emptyCost + 100
        try accept()
        try accept(body: 100 + excess)
        #expect(state.account.dropped == (isKept ? [.queueFull: 1] : [.tooLarge: 1]))
        #expect(state.queue.count == 1)
        #expect(next()?.profile.byteCount == config.queue.maxBytes + (isKept ? excess : -100))
        #expect(isBalanced)
    }

    @Test("The oldest profiles are evicted until all bytes are within max_bytes", arguments: [(-1, 0), (0, 0), (1, 1)])
    func fullOfBytes(excess: Int, evicted: Int) throws {
        config.queue.maxBytes = try 3 * (ReceivedProfile.emptyCost + 10)
        try accept(2, body: 10)
        try accept(body: 10 + excess)
        #expect(state.account.dropped[.queueFull] ?? 0 == evicted)
        #expect(state.queue.count == 3 - evicted)
        #expect(isBalanced)
    }

    @Test("One large profile evicts as many small ones as necessary")
    func manyEvicted() throws {
        config.queue.maxBytes = try 4 * ReceivedProfile.emptyCost
        try accept(4)
        try accept(body: 2 * ReceivedProfile.emptyCost)
        #expect(state.account.dropped == [.queueFull: 3])
        #expect(state.queue.count == 2)
        #expect(isBalanced)
    }

    @Test("The oldest profiles are evicted above max_profiles", arguments: [(2, 0), (3, 0), (4, 1), (7, 4)])
    func fullOfProfiles(count: Int, evicted: Int) throws {
        config.queue.maxProfiles = 3
        try accept(count)
        #expect(state.account.dropped[.queueFull] ?? 0 == evicted)
        #expect(state.queue.count == min(count, 3))
        #expect(isBalanced)
    }

    @Test("An open profile is never evicted, and a new one is dropped instead")
    func openStays() throws {
        config.queue.maxProfiles = 2
        try accept(2)
        let open = [next(), next()].map { $0?.token }
        try accept()
        #expect(state.queue.count == 2)
        #expect(state.account.dropped == [.queueFull: 1])
        for token in open { try settle(token, Self.delivered) }
        #expect(state.account.delivered == 2)
        #expect(isBalanced)
    }

    @Test("A profile is dropped when it is as old as max_age", arguments: [(9, true), (10, false), (11, false)] as [(Int64, Bool)])
    func maxAge(age: Int64, isKept: Bool) throws {
        config.queue.maxAge = .seconds(10)
        try accept(at: .at(100))
        #expect((next(at: .at(100 + age)) != nil) == isKept)
        #expect(state.account.dropped == (isKept ? [:] : [.maxAge: 1]))
        #expect(isBalanced)
    }

    @Test("An open profile is dropped for max_age only after it comes back")
    func openOutlivesAge() throws {
        config.queue.maxAge = .seconds(10)
        try accept(at: .at(100))
        let token = next(at: .at(100))?.token
        #expect(next(at: .at(200)) == nil)
        #expect(state.account.dropped.isEmpty)
        try settle(token, Self.retry, at: .at(200))
        #expect(next(at: .at(300)) == nil)
        #expect(state.account.dropped == [.maxAge: 1])
        #expect(isBalanced)
    }

    // MARK: Out

    @Test("At most max_in_flight deliveries are open")
    func inFlight() throws {
        try accept(Self.limit + 1)
        let open = (0..<Self.limit).map { _ in next() }
        #expect(!open.contains { $0 == nil })
        #expect(next() == nil)
        try settle(open[2]?.token, Self.delivered)
        #expect(next() != nil)
    }

    @Test("The thread is told the time of the next retry or expiry")
    func nextEvent() throws {
        /// The time until which the thread waits, or nil when there is a step to take.
        func waits(at now: MonotonicTime) -> MonotonicTime? {
            guard case .again(let time) = state.nextStep(config, now: now) else { return nil }
            return time
        }
        #expect(waits(at: .at(1)) == .never)
        try accept()
        try settle(next()?.token, Self.retry)
        #expect(waits(at: .at(1)) == .at(2))
        config.queue.maxAge = .milliseconds(500)
        #expect(waits(at: .at(1)) == MonotonicTime(nanoseconds: 1_500_000_000))
    }

    // MARK: Back

    @Test("A delivered profile is removed, and a second finish is refused")
    func finishTwice() throws {
        try accept()
        let token = try #require(next()?.token)
        let events = try settle(token, Self.delivered)
        #expect(events.isEmpty)
        let second = state.finish(token, Self.delivered, config, .at(1))
        #expect(second == nil)
        #expect((state.account.delivered, state.queue.count) == (1, 0))
    }

    @Test("A rejected profile is dropped with its reason, and counts as a sign of life")
    func rejection() throws {
        try accept(5)
        for _ in 0..<4 { try settle(next()?.token, Self.retry) }
        let delivery = try #require(next())
        let events = try settle(delivery.token, Self.rejected)
        #expect(events == [.dropped(.rejected, sequence: delivery.profile.sequence, why: "no")])
        #expect(state.serving?.lastError == "no")
        #expect(state.account.dropped == [.rejected: 1])
        #expect(!state.isFailing)
        #expect(isBalanced)
    }

    @Test(
        "A retry waits for its backoff, and is the next attempt with its progress", arguments: [DeliveryOutcome.Status.retry, .aborted])
    func retries(status: DeliveryOutcome.Status) throws {
        try accept()
        try settle(next()?.token, DeliveryOutcome(status: status, progress: 9))
        #expect(next(at: MonotonicTime(nanoseconds: 1_999_999_999)) == nil)
        let again = try #require(next(at: .at(2)))
        #expect((again.attempt, again.progress) == (2, 9))
        #expect(state.account.retries == 1)
        #expect(isBalanced)
    }

    @Test("A longer wait that the destination asks for is respected")
    func retryAfter() throws {
        try accept()
        try settle(next()?.token, DeliveryOutcome(status: .retry, retryAfter: .seconds(60)))
        #expect(next(at: .at(60)) == nil)
        #expect(next(at: .at(61)) != nil)
    }

    @Test(
        "A wait that the destination asks for is limited to max_retry_after",
        arguments: [119, 120, 121, Int64.max / 1_000_000_000])
    func longRetryAfter(asked: Int64) throws {
        config.retry.longestRetryAfter = .seconds(120)
        let wait = min(asked, 120)
        try accept()
        try settle(next()?.token, DeliveryOutcome(status: .retry, retryAfter: .seconds(asked)))
        #expect(next(at: .at(wait)) == nil)
        #expect(next(at: .at(wait + 1)) != nil)
        #expect(isBalanced)
    }

    @Test("Attempt N + 1 is the last one with N retries", arguments: [1, 2, 5])
    func exhaustion(retries: Int) throws {
        config.retry.retries = retries
        try accept()
        for attempt in 1...(retries + 1) {
            let delivery = try #require(next(at: .at(Int64(attempt) * 10)))
            #expect(delivery.attempt == attempt)
            #expect(state.account.dropped.isEmpty)
            try settle(delivery.token, Self.retry, at: .at(Int64(attempt) * 10))
        }
        #expect(state.account.dropped == [.retriesExhausted: 1])
        #expect(state.queue.count == 0)
        #expect(isBalanced)
    }

    @Test("Retries of five profiles make the receiver failed, and one delivery makes it recover")
    func failing() throws {
        try accept(8)
        for _ in 0..<4 { try settle(next()?.token, Self.retry) }
        #expect(state.health.0 == .ok)
        let began = try settle(next()?.token, Self.retry)
        #expect(began == [.failing])
        #expect(state.health == (.failed, "later"))
        #expect(next(at: .at(1)) == nil)
        let probe = next(at: .at(2))
        #expect(probe != nil && next(at: .at(2)) == nil)
        let ended = try settle(probe?.token, Self.delivered, at: .at(2))
        #expect(ended == [.recovered])
        #expect(state.health.0 == .ok)
        #expect(next(at: .at(2)) != nil && next(at: .at(2)) == nil)
    }

    @Test("Probes rotate over the queue")
    func rotation() throws {
        try accept(6)
        for _ in 0..<5 { try settle(next()?.token, Self.retry) }
        var probed: [UInt64] = []
        for seconds: Int64 in 1...6 {
            let probe = try #require(next(at: .at(seconds * 100)))
            probed.append(probe.profile.sequence)
            try settle(probe.token, Self.retry, at: .at(seconds * 100))
        }
        #expect(Set(probed).count == 6)
    }

    @Test("A retry with more progress is a sign of life")
    func progress() throws {
        try accept(8)
        for number: UInt64 in 1...8 { try settle(next()?.token, DeliveryOutcome(status: .retry, progress: number)) }
        #expect(!state.isFailing)
    }

    @Test("A receiver with an overdue plugin is failed, whatever the plugin states")
    func overdue() {
        state.instances[0]?.stated = (.degraded, "slow")
        #expect(state.health == (.degraded, "slow"))
        state.instances[0]?.overdue = "deliver takes longer than delivery_timeout"
        #expect(state.health == (.failed, "deliver takes longer than delivery_timeout"))
    }

    // MARK: End

    @Test("Draining delivers the rest, flushes once and destroys the instance")
    func draining() throws {
        try accept()
        state.isDraining = true
        let token = next()?.token
        guard case .again = state.nextStep(config, now: .at(1)) else {
            Issue.record("the flush does not wait for what is open")
            return
        }
        try settle(token, Self.delivered)
        guard case .done(.flush(let flush)) = state.nextStep(config, now: .at(1)), case .again = state.nextStep(config, now: .at(1)) else {
            Issue.record("no flush, or more than one")
            return
        }
        try settle(flush, Self.delivered)
        guard case .done(.destroy) = state.nextStep(config, now: .at(1)) else {
            Issue.record("no end after the flush")
            return
        }
    }

    @Test("Stopping drops waiting profiles, and open ones that come back undelivered")
    func stopping() throws {
        try accept(4)
        let open = [next(), next()].map { $0?.token }
        let lost = state.close()
        #expect(lost == (dropped: 4, kept: 0))
        #expect(isBalanced)
        try settle(open[0], Self.delivered)
        try settle(open[1], DeliveryOutcome(status: .aborted))
        #expect(state.account.delivered == 1)
        #expect(state.account.dropped == [.shutdown: 3])
        #expect(state.queue.count == 0)
        #expect(isBalanced)
    }

    @Test("The account balances after any order of events")
    func accounting() throws {
        var random = SeededRandom()
        for round in 0..<20 {
            state = .working(limit: Self.limit)
            config.queue = QueueConfig(
                maxBytes: try ReceivedProfile.emptyCost * 12, maxProfiles: 3 + random.below(12), maxAge: round % 2 == 0 ? .seconds(20) : nil
            )
            config.retry.retries = random.below(4)
            try runRandomly(&random)
            _ = state.close()
            #expect(state.queue.count == state.serving?.openDeliveries)
        }
    }

    /// Runs random events, and checks the account after each.
    private func runRandomly(_ random: inout SeededRandom) throws {
        var tokens: [UInt] = []
        var seconds: Int64 = 0
        for step in 0..<400 {
            seconds += Int64(random.below(3))
            switch random.below(4) {
            case 0: try accept(body: random.below(4) * (try ReceivedProfile.emptyCost) * random.below(6), at: .at(seconds))
            case 1: if let token = next(at: .at(seconds))?.token { tokens.append(token) }
            default:
                guard !tokens.isEmpty else { continue }
                let statuses: [DeliveryOutcome.Status] = [.delivered, .retry, .retry, .rejected, .aborted]
                let outcome = DeliveryOutcome(
                    status: statuses[random.below(5)], retryAfter: .seconds(random.below(5)), progress: UInt64(random.below(2)))
                try settle(tokens.remove(at: random.below(tokens.count)), outcome, at: .at(seconds))
            }
            try #require(isBalanced, "step \(step)")
            try #require(state.serving?.openDeliveries == tokens.count, "step \(step)")
            try #require(state.queue.count <= config.queue.maxProfiles && state.queue.byteCount <= config.queue.maxBytes, "step \(step)")
        }
    }

    // MARK: Reports

    @Test("Drops are reported at most once in ten seconds, all reasons together")
    func reports() {
        var reports = DropReports()
        func due(_ now: MonotonicTime) -> String? { reports.due(now) }
        #expect(due(.at(100)) == nil)
        reports.count(.queueFull)
        reports.count(.queueFull)
        reports.count(.maxAge)
        #expect(due(.at(100)) == "1 max_age, 2 queue_full")
        reports.count(.queueFull)
        #expect(due(.at(110)) == nil)
        #expect(due(.at(111)) == "1 queue_full")
        #expect(due(.at(200)) == nil)
    }
}
