import Synchronization
import Testing

@testable import Receivers
@testable import TestSupport

@Suite("The answer to a sender that waits for delivery")
struct AcknowledgementTests {
    /// Collects the answers, so that a test can count them.
    private final class Answers: Sendable {
        private let list = Mutex<[Acknowledgement.Failure?]>([])
        var all: [Acknowledgement.Failure?] { list.withLock { $0 } }
        func add(_ failure: Acknowledgement.Failure?) { list.withLock { $0.append(failure) } }
    }

    typealias Outcome = (receiver: String, settlement: Settlement)

    private static func delivered(_ receiver: String) -> Outcome { (receiver, .delivered) }
    private static func rejected(_ receiver: String, _ status: Int) -> Outcome { (receiver, .failed(status: status, isRetryable: false)) }
    private static func gaveUp(_ receiver: String, _ status: Int) -> Outcome { (receiver, .failed(status: status, isRetryable: true)) }

    /// Settles in this order, and returns the receiver and status of the answer, such as `a 400`, or `ok`.
    private static func decision(_ outcomes: [Outcome]) -> String {
        let answers = Answers()
        let receivers = Set(outcomes.map(\.receiver)).sorted()
        let acknowledgement = Acknowledgement(profiles: outcomes.count / receivers.count, receivers: receivers) { answers.add($0) }
        for (index, outcome) in outcomes.enumerated() {
            #expect(answers.all.isEmpty, "not before \(outcomes.count) settlements, at \(index)")
            acknowledgement.settle(outcome.settlement, by: outcome.receiver)
        }
        #expect(answers.all.count == 1)
        guard let failure = answers.all.first ?? nil else { return "ok" }
        return "\(failure.receiver) \(failure.status)"
    }

    static let decisions: [([Outcome], String)] = [
        ([delivered("a")], "ok"),
        ([delivered("a"), delivered("b"), delivered("c")], "ok"),
        ([rejected("a", 400)], "a 400"),
        ([delivered("a"), rejected("b", 422), delivered("c")], "b 422"),
        ([rejected("a", 400), gaveUp("b", 503)], "b 503"),
        ([rejected("a", 400), rejected("b", 413)], "a 400"),
        ([gaveUp("a", 502), gaveUp("b", 503)], "a 502"),
        ([rejected("a", 400), gaveUp("b", 0), gaveUp("c", 503)], "b 0"),
        ([delivered("a"), rejected("b", 400), rejected("c", 401), gaveUp("d", 429)], "d 429"),
    ]

    @Test("A retryable failure wins over a permanent one, and then the config's order decides, not who settles first", arguments: decisions)
    func decides(outcomes: [Outcome], expected: String) {
        var random = SeededRandom()
        for _ in 0..<10 { #expect(Self.decision(outcomes.shuffled(using: &random)) == expected) }
    }

    @Test("The same rule decides for several profiles, and one receiver's first failure of a kind counts")
    func severalProfiles() {
        #expect(Self.decision([Self.delivered("a"), Self.delivered("a")]) == "ok")
        #expect(Self.decision([Self.rejected("a", 400), Self.delivered("a")]) == "a 400")
        #expect(Self.decision([Self.rejected("a", 400), Self.rejected("a", 413)]) == "a 400")
        #expect(Self.decision([Self.rejected("a", 400), Self.gaveUp("a", 503)]) == "a 503")
        #expect(Self.decision([Self.rejected("a", 400), Self.delivered("a"), Self.delivered("b"), Self.gaveUp("b", 500)]) == "b 500")
    }

    @Test("The sender is answered once, even when many threads settle")
    func threads() async {
        for _ in 0..<100 {
            let answers = Answers()
            let acknowledgement = Acknowledgement(profiles: 16, receivers: ["a", "b"]) { answers.add($0) }
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<32 {
                    group.addTask {
                        acknowledgement.settle(
                            index == 7 ? .failed(status: 500, isRetryable: true) : .delivered, by: index % 2 == 0 ? "a" : "b")
                    }
                }
            }
            #expect(answers.all == [Acknowledgement.Failure(receiver: "b", settlement: .failed(status: 500, isRetryable: true))])
        }
    }

    @Test("Results for waiting senders are told in the order in which they came, each once", arguments: 0...4)
    func order(count: Int) {
        let acknowledgement = Acknowledgement(profiles: 1, receivers: ["a"]) { _ in }
        var settlements = Settlements()
        #expect(settlements.isEmpty)
        let statuses = Array(0..<count)
        for status in statuses { settlements.append((acknowledgement, .failed(status: status, isRetryable: true))) }
        #expect(settlements.isEmpty == (count == 0))
        #expect(settlements.map(\.1) == statuses.map { .failed(status: $0, isRetryable: true) })
        for _ in statuses { #expect(settlements.next() != nil) }
        #expect(settlements.isEmpty && settlements.next() == nil)
    }
}
