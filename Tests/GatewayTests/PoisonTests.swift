import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers
@testable import TestSupport

/// Profiles that a destination always refuses must not delay those that it accepts, and a destination that is away must not be
/// mistaken for one that refuses single profiles.
@Suite("Profiles that a destination refuses again and again")
final class PoisonTests {
    private var state = Receiver.State.working(limit: 8)
    private var config = ReceiverConfig(
        name: "r", retry: RetryPolicy(minimum: .milliseconds(500), maximum: .seconds(30), retries: 0), maxInFlight: 8)
    private var now = MonotonicTime.at(1)
    private var delivered = 0

    /// The sequences of the profiles that the destination always refuses, and the statuses that it refuses them with.
    private var poison: Set<UInt64> = []
    private var statuses = [500]
    /// The status for every profile while the destination is away, 0 when it does not answer; nil while it works.
    private var outage: Int?
    /// The attempts so far: the time and the profile's sequence of each.
    private var attempts: [(at: MonotonicTime, sequence: UInt64)] = []
    private var rejected: [UInt64] = []

    @discardableResult
    private func accept(poison isPoison: Bool = false) throws -> UInt64 {
        let profile = try ReceivedProfile.sample()
        if isPoison { poison.insert(profile.sequence) }
        state.accept(profile, nil, config.queue, now)
        return profile.sequence
    }

    /// Performs all steps that are due now; the destination answers at once.
    private func run() throws {
        while case .done(let step) = state.nextStep(config, now: now) {
            guard case .deliver(let entry, _, let token) = step else { continue }
            attempts.append((now, entry.sequence))
            let isRefused = poison.contains(entry.sequence)
            let status = outage ?? (isRefused ? statuses[attempts.count % statuses.count] : 200)
            let outcome = DeliveryOutcome(
                status: outage != nil || isRefused ? .retry : .delivered, httpStatus: status, reason: "HTTP \(status)")
            let settled = state.finish(token, outcome, config, now)
            if outcome.status == .delivered { delivered += 1 }
            for case .dropped(.rejected, let sequence, _) in try #require(settled).events { rejected.append(sequence) }
        }
    }

    /// Runs for some seconds in steps of a tenth of a second, and calls `each` before each step.
    private func run(seconds: Int64, _ each: (_ tenth: Int64) throws -> Void = { _ in }) throws {
        for tenth in 0..<seconds * 10 {
            try each(tenth)
            try run()
            now.nanoseconds += 100_000_000
        }
    }

    @Test(
        "Every good profile is delivered within 2 s, beside any number of poison profiles",
        arguments: [1, 5, 20, 200], [[500], [502], [503], [500, 502, 503]])
    func goodAmongPoison(count: Int, statuses: [Int]) throws {
        self.statuses = statuses
        for _ in 0..<count { try accept(poison: true) }
        var waiting: [UInt64: MonotonicTime] = [:]
        try run(seconds: 120) { tenth in
            // Four good profiles arrive in each second.
            if [0, 3, 5, 8].contains(tenth % 10) { waiting[try accept()] = now }
            for attempt in attempts.suffix(500) { waiting[attempt.sequence] = nil }
            for (_, since) in waiting { try #require(now.nanoseconds - since.nanoseconds <= 2_000_000_000) }
        }
        #expect(delivered >= 4 * 120 - 1)
        #expect(state.queue.count == count)
        #expect(state.account.dropped.isEmpty)
    }

    @Test("A steady flow of new poison does not delay good profiles")
    func steadyPoison() throws {
        try run(seconds: 60) { tenth in
            if tenth % 2 == 0 { try accept(poison: true) }
            if tenth % 5 == 1 { try accept() }
        }
        #expect(delivered == 2 * 60)
    }

    @Test("A few poison profiles do not make an idle receiver failing", arguments: [2, 4])
    func leftovers(count: Int) throws {
        for _ in 0..<count { try accept(poison: true) }
        var wasFailing = false
        try run(seconds: 600) { _ in wasFailing = wasFailing || state.isFailing }
        #expect(!wasFailing)
    }

    @Test("Any number of profiles that were refused before does not make a receiver failing")
    func knownRefusals() throws {
        for _ in 0..<20 { try accept(poison: true) }
        try run(seconds: 30) { tenth in if tenth % 5 == 0 { try accept() } }
        var wasFailing = state.isFailing
        try run(seconds: 600) { _ in wasFailing = wasFailing || state.isFailing }
        #expect(!wasFailing)
        #expect(state.queue.count == 20)
    }

    @Test("A destination that is away gets one probe at a time, at least min_backoff_period apart", arguments: [0, 503])
    func away(status: Int) throws {
        outage = status
        for _ in 0..<50 { try accept() }
        try run(seconds: 1)
        try #require(state.serving?.pace.isFailing == true)
        attempts = []
        try run(seconds: 60) { tenth in if tenth % 3 == 0 { try accept() } }
        #expect(attempts.count > 30)
        for (earlier, later) in zip(attempts, attempts.dropFirst()) {
            #expect(later.at.nanoseconds - earlier.at.nanoseconds >= 500_000_000)
        }
    }

    @Test("The probes of a destination that is away become rarer without new profiles, and profiles take turns")
    func probesBackOff() throws {
        outage = 0
        for _ in 0..<6 { try accept() }
        try run(seconds: 600)
        #expect(attempts.count < 60)
        #expect(Dictionary(grouping: attempts, by: \.sequence).values.allSatisfy { $0.count >= 3 })
    }

    @Test("A destination that returns gets one delivery at a time at first, and then quickly more")
    func noStorm() throws {
        outage = 503
        for _ in 0..<40 { try accept() }
        try run(seconds: 30)
        outage = nil
        // The probe is alone, and then the window grows with each delivery.
        var windows: [Int] = []
        var open: [UInt] = []
        now = now + .seconds(60)
        for _ in 0..<4 {
            while case .done(.deliver(_, _, let token)) = state.nextStep(config, now: now) { open.append(token) }
            windows.append(open.count)
            for token in open { _ = state.finish(token, DeliveryOutcome(status: .delivered), config, now) }
            open = []
        }
        #expect(windows == [1, 1, 2, 8])
    }

    @Test("A suspect profile keeps its retry time when the receiver recovers, and the other profiles are due")
    func recovery() throws {
        let suspect = try accept(poison: true)
        // After six attempts it waits for at least 8 s.
        while attempts.count(where: { $0.sequence == suspect }) < 6 { try run(seconds: 1) { _ in try accept() } }
        outage = 503
        let waiting = try (0..<6).map { _ in try accept() }
        try run(seconds: 3)
        try #require(state.serving?.pace.isFailing == true)
        (outage, attempts) = (nil, [])
        now = now + .seconds(1)
        try accept()
        try run()
        #expect(Set(attempts.map(\.sequence)).isSuperset(of: waiting))
        #expect(!attempts.contains { $0.sequence == suspect })
    }

    @Test(
        "A profile is rejected after 12 refusals over 15 minutes with other profiles delivered in between",
        arguments: [(12, 900, true), (13, 900, true), (0, 900, false), (1000, 900, false), (12, 7200, false)])
    func rejection(refusals: Int, seconds: Int64, isRejected: Bool) throws {
        (config.retry.refusalsUntilRejected, config.retry.refusedFor) = (refusals, .seconds(seconds))
        let bad = try accept(poison: true)
        try run(seconds: 960) { tenth in if tenth % 10 == 0 { try accept() } }
        #expect(rejected == (isRejected ? [bad] : []))
        let times = attempts.filter { $0.sequence == bad }.map(\.at)
        let last = try #require(times.last)
        if isRejected {
            #expect(times.count >= 12 && last.nanoseconds - times[0].nanoseconds >= 900_000_000_000)
            #expect(state.account.dropped == [.rejected: 1])
        }
    }

    @Test(
        "The bounds for the number and the period of refusals are inclusive",
        arguments: [(2, 60, 2, 60, true), (3, 60, 2, 60, false), (2, 61, 2, 60, false), (2, 59, 2, 60, true), (1, 0, 1, 0, true)]
            as [(Int, Int64, Int, Int64, Bool)])
    func bounds(limit: Int, period: Int64, refusals: Int, lasted: Int64, isProven: Bool) {
        var policy = config.retry
        (policy.refusalsUntilRejected, policy.refusedFor) = (limit, .seconds(period))
        var known = Refusals()
        for number in 0..<refusals { _ = known.add(status: 500, passes: number, now: .at(10 + (number == 0 ? 0 : lasted))) }
        #expect(policy.isProven(known, now: .at(10 + lasted)) == isProven)
    }

    @Test(
        "A refusal counts only with a 5xx status and another profile delivered since the last one",
        arguments: [(499, 0), (500, 1), (599, 1), (600, 0), (0, 0)])
    func counting(status: Int, count: Int) {
        var refusals = Refusals()
        for _ in 0..<5 { _ = refusals.add(status: status, passes: 3, now: .at(1)) }
        #expect(refusals.count == count)
        _ = refusals.add(status: status, passes: 4, now: .at(2))
        #expect(refusals.count == 2 * count)
        #expect(refusals.isSuspect == (count > 0))
    }

    @Test("A rolling restart of ten minutes rejects no profile")
    func rollingRestart() throws {
        config.retry.maximum = .seconds(5)
        var random = SeededRandom()
        var accepted = 0
        try run(seconds: 600) { tenth in
            // The destination is away for 0.7 s of every 1.4 s, and at random in the rest.
            outage = tenth / 7 % 2 == 0 || random.below(3) == 0 ? 503 : nil
            if tenth % 3 == 0 {
                try accept()
                accepted += 1
            }
        }
        outage = nil
        try run(seconds: 60)
        #expect(rejected.isEmpty && state.account.dropped.isEmpty)
        #expect(delivered == accepted)
    }

    @Test("A failing receiver makes one probe at once after a reload")
    func reload() throws {
        outage = 0
        for _ in 0..<6 { try accept() }
        try run(seconds: 100)
        attempts = []
        state.instances[0]?.pace.hurry()
        state.queue.wakeAll()
        try run()
        #expect(attempts.count == 1)
    }
}
