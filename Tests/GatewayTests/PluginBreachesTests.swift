import LinuxSystem
import Testing

@testable import PluginHost
@testable import Receivers

@Suite("Breaches of the plugin interface's contract")
struct PluginBreachesTests {
    private static let token = PluginBreach(.unknownToken, "an operation was finished twice")
    private static let outcome = PluginBreach(.outcome, "an outcome that is NULL")

    private static func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64((1000 + seconds) * 1e9)) }

    @Test("A kind is logged at once and then once a minute, with the number of breaches since")
    func logged() {
        var breaches = PluginBreaches()
        #expect(breaches.note(Self.token, Self.time(0)) == 1)
        #expect(breaches.note(Self.token, Self.time(1)) == nil)
        #expect(breaches.note(Self.outcome, Self.time(2)) == 1, "another kind has a line of its own")
        #expect(breaches.note(Self.token, Self.time(59.9)) == nil)
        #expect(breaches.note(Self.token, Self.time(60)) == 3)
        #expect(breaches.note(Self.token, Self.time(61)) == nil)
        #expect(breaches.counts == [.unknownToken: 5, .outcome: 1])
    }

    @Test("The last breach counts as recent for ten minutes")
    func recent() {
        var breaches = PluginBreaches()
        #expect(breaches.recent(Self.time(0)) == nil)
        _ = breaches.note(PluginBreach(.overdue, "deliver takes longer than delivery_timeout"), Self.time(0))
        #expect(breaches.recent(Self.time(0)) == nil && breaches.last?.kind == .overdue, "that is over when the call returns")
        _ = breaches.note(Self.token, Self.time(0))
        _ = breaches.note(Self.outcome, Self.time(5))
        for (seconds, isRecent) in [(5.0, true), (604.9, true), (605, false), (10_000, false)] {
            #expect(breaches.recent(Self.time(seconds)) == (isRecent ? Self.outcome : nil))
        }
    }

    @Test("A plugin logs 200 lines at once and 50 a second after that, and drops are reported with the next line")
    func budget() {
        var budget = LogBudget()
        #expect((0..<200).allSatisfy { _ in budget.allowsLine(Self.time(0)) == 0 })
        #expect((0..<7).allSatisfy { _ in budget.allowsLine(Self.time(0)) == nil })
        #expect(budget.allowsLine(Self.time(1)) == 7)
        #expect((0..<49).allSatisfy { _ in budget.allowsLine(Self.time(1)) == 0 })
        #expect(budget.allowsLine(Self.time(1)) == nil)
        // No more than 200 lines are saved up.
        #expect((0..<200).allSatisfy { _ in budget.allowsLine(Self.time(1000)) != nil })
        #expect(budget.allowsLine(Self.time(1000)) == nil)
    }
}
