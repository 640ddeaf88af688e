import LinuxSystem
import Testing

@testable import PluginHost
@testable import Receivers
@testable import Telemetry

@Suite("A receiver that is failing or has ended")
struct ReceiverEndTests {
    private let config = ReceiverConfig(name: "r")
    private var state = Receiver.State.working()

    /// Makes the receiver failing.
    private mutating func fail() throws {
        for number in 0..<DeliveryPacing.retriesUntilFailing { state.accept(try .sample(body: number), nil, config.queue, .at(1)) }
        for _ in 0..<DeliveryPacing.retriesUntilFailing {
            guard case .done(.deliver(_, _, let token)) = state.nextStep(config, now: .at(1)) else { return }
            _ = state.finish(token, DeliveryOutcome(status: .retry, reason: "down"), config, .at(1))
        }
    }

    @Test("The receiver's thread sleeps while a probe is open")
    mutating func openProbe() throws {
        try fail()
        #expect(state.isFailing)
        guard case .done(.deliver) = state.nextStep(config, now: .at(100)) else {
            Issue.record("the probe does not go out")
            return
        }
        guard case .again(.never) = state.nextStep(config, now: .at(101)) else {
            Issue.record("the thread would spin")
            return
        }
    }

    @Test("A rejection without an answer of the destination is no sign of life", arguments: [0, 400])
    mutating func localRefusal(status: Int) throws {
        try fail()
        guard case .done(.deliver(_, _, let token)) = state.nextStep(config, now: .at(100)) else { return }
        _ = state.finish(token, DeliveryOutcome(status: .rejected, httpStatus: status), config, .at(100))
        #expect(state.isFailing == (status == 0))
    }

    @Test("A profile that comes after the end is counted as dropped, and its sender gets an error")
    mutating func tooLate() throws {
        _ = state.close()
        let acknowledgement = Acknowledgement(profiles: 1, receivers: ["r"]) { _ in }
        state.accept(try .sample(), acknowledgement, config.queue, .at(1))
        #expect(state.account.accepted == 1)
        #expect(state.account.dropped == [.shutdown: 1])
        #expect(state.queue.count == 0)
        #expect(state.takeSettlements().map(\.1) == [.unavailable])
    }
}
