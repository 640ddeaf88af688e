import LinuxSystem

@testable import PluginHost
@testable import Receivers

extension Receiver.State {
    /// The state of a receiver that is served by instance 0.
    static func working(limit: Int = 64) -> Receiver.State {
        var state = Receiver.State(ReceiverConfig(name: "r"))
        state.makeInstance(0, limit: limit)
        state.serve(0)
        return state
    }

    /// Adds an instance that was created and does not serve yet.
    mutating func makeInstance(_ number: Int, limit: Int) {
        instances[number] = InstanceState(maxInFlight: limit, now: .at(1))
        instances[number]?.created(nil)
    }

    /// Takes the next step of the serving instance's thread.
    mutating func nextStep(_ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        nextStep(of: current, config, now: now)
    }

    mutating func nextStep(of number: Int, _ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        self.config = config
        return takeStep(of: number, now: now)
    }

    mutating func finish(
        _ token: UInt, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> Finished? {
        self.config = config
        return finish(token, outcome, now)
    }

    var isFailing: Bool { serving?.pace.isFailing == true }
}

extension ReceiverQueue {
    var hasReady: Bool { readyCount > 0 }

    /// Opens the entry that is delivered next.
    mutating func open() -> Handle? {
        guard let next = nextReady() else { return nil }
        open(next)
        return next
    }
}
