import LinuxSystem
import Testing

@testable import PluginHost
@testable import Profiles
@testable import Receivers

@Suite("What is remembered of crashes in plugins")
struct CrashHistoryTests {
    private static func instance(
        _ receiver: String, _ call: CallRecord.Call? = nil, sequence: UInt64 = 0, alone: UInt64 = 0, isCulprit: Bool = false,
        open: Set<UInt64> = []
    ) -> CrashReport.Instance {
        var instance = CrashReport.Instance(receiver: receiver)
        (instance.call, instance.sequence, instance.alone, instance.isCulprit, instance.open) = (call, sequence, alone, isCulprit, open)
        return instance
    }

    private static func crash(_ instances: CrashReport.Instance..., cause: String? = "SIGSEGV", at time: Int64 = 1000) -> CrashReport {
        CrashReport(cause: cause, time: time, instances)
    }

    /// Notes in memory of their own, as they are after the calls of `body`.
    private static func notes(_ body: (UnsafeMutableRawPointer) throws -> Void) throws {
        let file = try SharedMapping.anonymousFile("notes", count: CrashGuard.size)
        let mapping = try SharedMapping(file, count: CrashGuard.size)
        try body(mapping.address)
    }

    // MARK: Notes

    @Test("Memory that holds no notes has no report")
    func noNotes() throws {
        try Self.notes { notes in
            #expect(CrashReport(notes, now: 5) == nil)
            notes.storeBytes(of: 0x3147_5242, as: UInt32.self)
            #expect(CrashReport(notes, now: 5) == nil)
        }
    }

    // MARK: Blame

    @Test("A profile that was alone in the plugin at three crashes is condemned, and not before")
    func alone() {
        var history = CrashHistory()
        for count in 1...3 {
            #expect(!CrashSuspects(history.suspects(of: "up")).isCondemned(5))
            history.add(Self.crash(Self.instance("up", .deliver, sequence: 5, isCulprit: true), Self.instance("other", open: [1, 2])))
            #expect(history.suspects(of: "up") == [5: count])
        }
        #expect(CrashSuspects(history.suspects(of: "up")).isCondemned(5) && history.suspects(of: "other").isEmpty)
    }

    @Test("A condemned profile stays condemned when the plugin crashes at another one")
    func staysCondemned() {
        var history = CrashHistory()
        for _ in 0..<3 { history.add(Self.crash(Self.instance("up", isCulprit: true, open: [5]))) }
        history.add(Self.crash(Self.instance("up", .deliver, sequence: 6, isCulprit: true)))
        #expect(history.suspects(of: "up") == [5: 3, 6: 1])
    }

    @Test("A crash with several profiles open counts against none of them")
    func several() {
        var history = CrashHistory()
        for _ in 0..<5 { history.add(Self.crash(Self.instance("up", .deliver, sequence: 6, isCulprit: true, open: [5]))) }
        #expect(history.suspects(of: "up") == [5: 0, 6: 0])
        history.add(Self.crash(Self.instance("up", .deliver, sequence: 6, isCulprit: true)))
        #expect(history.suspects(of: "up") == [6: 1], "the other one was survived")
    }

    @Test("A crash in code of two receivers' plugin counts against no profile, and against the plugin of both")
    func sharedPlugin() {
        var history = CrashHistory()
        for _ in 0..<5 {
            history.add(Self.crash(Self.instance("up", isCulprit: true, open: [5]), Self.instance("down", isCulprit: true, open: [6])))
        }
        #expect(history.suspects(of: "up") == [5: 0] && history.suspects(of: "down") == [6: 0])
        #expect(history.isLooping("up", now: 1000) && history.isLooping("down", now: 1000))
    }

    @Test("A crash outside of the plugins blames nobody; what was open is delivered with care")
    func outside() {
        var history = CrashHistory()
        for _ in 0..<6 { history.add(Self.crash(Self.instance("up", alone: 5, open: [5]), Self.instance("other", open: [7]))) }
        #expect(history.suspects(of: "up") == [5: 0] && history.suspects(of: "other") == [7: 0])
        #expect(!history.isLooping("up", now: 1000))
    }

    @Test("A process that ends without a word counts only against the profile that was alone")
    func withoutWord() {
        var history = CrashHistory()
        for _ in 0..<6 { history.add(Self.crash(Self.instance("up", .deliver, sequence: 5), cause: nil)) }
        #expect(history.suspects(of: "up") == [5: 0] && !history.isLooping("up", now: 1000))
        for count in 1...3 {
            history.add(Self.crash(Self.instance("up", alone: 5, open: [5]), Self.instance("other", open: [8]), cause: nil))
            #expect(history.suspects(of: "up") == [5: count] && history.suspects(of: "other") == [8: 0])
        }
    }

    @Test("A plugin during whose start five processes ended without a word, and none came further, is not started", arguments: 3...6)
    func failedStarts(count: Int) {
        var history = CrashHistory()
        for number in 0..<count {
            history.add(Self.crash(Self.instance("up", number % 2 == 0 ? .load : .create), cause: nil))
            let isRead = CrashHistory(Array(history.text.utf8)) == history
            #expect(isRead)
        }
        #expect(history.isLooping("up", now: 1000) == (count >= 5) && !history.isLooping("up", now: 1600))
        history.add(Self.crash(Self.instance("up"), Self.instance("other", .create), cause: nil))
        #expect(!history.isLooping("up", now: 1000))
    }

    @Test("A process that ends without a word blames nobody when it may have been two")
    func twoWithoutWord() {
        var history = CrashHistory()
        for _ in 0..<5 {
            history.add(Self.crash(Self.instance("up", alone: 5, open: [5]), Self.instance("down", .create), cause: nil))
            history.add(Self.crash(Self.instance("up", .load), Self.instance("down", .create), cause: nil))
        }
        #expect(history.suspects(of: "up")[5, default: 0] == 0)
        #expect(!history.isLooping("up", now: 1000) && !history.isLooping("down", now: 1000))
    }

    @Test(
        "A crash in a call without a profile blames the plugin and no profile",
        arguments: [CallRecord.Call.load, .create, .flush, .abort, .destroy])
    func otherCalls(call: CallRecord.Call) {
        var history = CrashHistory()
        for _ in 0..<5 { history.add(Self.crash(Self.instance("up", call, isCulprit: true, open: [4]))) }
        #expect(history.suspects(of: "up").isEmpty && history.isLooping("up", now: 1000))
    }

    @Test(
        "A plugin that crashed five times within ten minutes is not started", arguments: [(4, 599), (5, 599), (5, 600), (6, 599), (6, -1)])
    func loop(crashes: Int, last: Int64) {
        var history = CrashHistory()
        for number in 0..<crashes {
            let time = 1000 + Int64(number > 0 ? 1 : 0)
            history.add(Self.crash(Self.instance("up", .deliver, sequence: 5, isCulprit: true), at: time))
        }
        #expect(history.isLooping("up", now: 1000 + last) == (last > 0 && (crashes == 5 && last < 600 || crashes > 5)))
        #expect(!history.isLooping("other", now: 1000) && !history.isLooping("up", now: 1000 + 601))
    }

    @Test("A receiver remembers at most 1,024 profiles that were alone, the newest", arguments: [1023, 1024, 1025])
    func mostRemembered(count: Int) {
        var history = CrashHistory()
        for sequence in 1...UInt64(count) { history.add(Self.crash(Self.instance("up", isCulprit: true, open: [sequence]))) }
        history.add(Self.crash(Self.instance("up", isCulprit: true, open: [5000, 5001])))
        #expect(history.suspects(of: "up").count == min(count, 1024) + 2 && history.suspects(of: "up")[UInt64(count)] == 1)
    }

    @Test("The history is read back from its JSON, and other texts are none")
    func text() {
        var history = CrashHistory()
        history.add(Self.crash(Self.instance("a \"b\"", .deliver, sequence: 5, isCulprit: true)))
        history.add(Self.crash(Self.instance("up", open: [UInt64.max]), Self.instance("other", open: [1]), cause: nil))
        #expect(CrashHistory(Array(history.text.utf8)) == history)
        let others = [
            "", "{", "[]", "{\"crashes\":[]}", "{\"suspects\":{\"a\":{\"x\":1}}}", "{\"suspects\":{\"a\":{\"1\":\"x\"}}}",
            "{\"suspects\":{\"a\":{\"1\":-1}}}", "{\"more\":{\"a\":1}}",
        ]
        for text in others { #expect(CrashHistory(Array(text.utf8)) == nil, "\(text)") }
    }

    // MARK: Delivery

    /// A receiver with room for four deliveries, and `count` profiles in its queue.
    private static func state(_ count: Int) throws -> (state: Receiver.State, sequences: [UInt64]) {
        var state = Receiver.State.working(limit: 4)
        state.config.maxInFlight = 4
        let profiles = try (0..<count).map { _ in try ReceivedProfile.sample() }
        for profile in profiles { state.accept(profile, nil, state.config.queue, .at(10)) }
        return (state, profiles.map(\.sequence))
    }

    /// What the receiver opens now.
    private static func open(_ state: inout Receiver.State, at second: Int64 = 10) -> [(sequence: UInt64, token: UInt)] {
        var opened: [(UInt64, UInt)] = []
        while case .done(.deliver(let entry, _, let token)) = state.takeStep(of: 0, now: .at(second)) {
            opened.append((entry.sequence, token))
        }
        return opened
    }

    @Test("A suspect is delivered alone, and no longer is one when that was survived")
    func suspects() throws {
        var (state, sequences) = try Self.state(4)
        state.suspects = CrashSuspects([sequences[0]: 0, sequences[2]: 0])
        for expected in [[0], [1], [2], [3]] {
            let opened = Self.open(&state)
            #expect(opened.map(\.sequence) == expected.map { sequences[$0] })
            for delivery in opened { _ = state.finish(delivery.token, DeliveryOutcome(status: .delivered), .at(10)) }
        }
        #expect(state.suspects.isEmpty)
    }

    @Test("A suspect that does not finish is alone for two seconds, and then the others are delivered", arguments: [11, 12])
    func slowSuspect(second: Int64) throws {
        var (state, sequences) = try Self.state(3)
        state.suspects = CrashSuspects([sequences[0]: 1])
        #expect(Self.open(&state).map(\.sequence) == [sequences[0]])
        #expect(Self.open(&state, at: second).map(\.sequence) == (second < 12 ? [] : Array(sequences.dropFirst())))
        guard second < 12, case .again(let time) = state.takeStep(of: 0, now: .at(second)) else { return }
        #expect(time == .at(12))
    }

    @Test("A suspect waits two seconds for a delivery that does not finish, and then goes beside it", arguments: [11, 12])
    func slowNeighbour(second: Int64) throws {
        var (state, sequences) = try Self.state(2)
        state.suspects = CrashSuspects([sequences[1]: 1])
        #expect(Self.open(&state).map(\.sequence) == [sequences[0]])
        #expect(Self.open(&state, at: second).map(\.sequence) == (second < 12 ? [] : [sequences[1]]))
    }

    @Test("After a minute of care, only those are delivered alone that crashed the plugin alone", arguments: [69, 70])
    func careEnds(second: Int64) throws {
        var (state, sequences) = try Self.state(4)
        state.suspects = CrashSuspects([sequences[0]: 0, sequences[1]: 0, sequences[2]: 0, sequences[3]: 1])
        #expect(Self.open(&state).map(\.sequence) == [sequences[0]])
        let expected = second < 70 ? [sequences[1]] : Array(sequences[1...2])
        #expect(Self.open(&state, at: second).map(\.sequence) == expected)
    }

    @Test("A suspect that comes back for a retry keeps its count")
    func retry() throws {
        var (state, sequences) = try Self.state(1)
        state.suspects = CrashSuspects([sequences[0]: 2])
        let opened = try #require(Self.open(&state).first)
        _ = state.finish(opened.token, DeliveryOutcome(status: .retry), .at(10))
        #expect(state.suspects.counts == [sequences[0]: 2])
    }

    @Test("A condemned profile is not delivered: it is dropped, and the others are delivered")
    func condemned() throws {
        var (state, sequences) = try Self.state(3)
        state.suspects = CrashSuspects([sequences[0]: 3])
        guard case .done(.condemned(.dropped(.crashed, let sequence, _))) = state.takeStep(of: 0, now: .at(10)) else {
            Issue.record("the first step is another")
            return
        }
        #expect(sequence == sequences[0] && state.account.dropped == [.crashed: 1])
        #expect(Self.open(&state).map(\.sequence) == Array(sequences.dropFirst()))
    }
}
