import LinuxSystem

@testable import Gateway

extension Receiver.State {
    /// The state of a receiver whose instance 0 is at work.
    static func working(limit: Int = 64) -> Receiver.State {
        var state = Receiver.State()
        state.makeInstance(0, limit: limit)
        state.serve(0)
        return state
    }

    /// Adds an instance that was made and waits to be put to work.
    mutating func makeInstance(_ number: Int, limit: Int) {
        instances[number] = InstanceState(maxInFlight: limit, now: .at(1))
        instances[number]?.created(nil)
    }

    /// What the thread of the instance at work does next.
    mutating func nextStep(_ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        nextStep(of: current, config, now: now)
    }

    var isFailing: Bool { serving?.pace.isFailing == true }
}

extension ReceiverQueue {
    var hasReady: Bool { readyCount > 0 }

    /// Opens what is delivered next.
    mutating func open() -> Handle? {
        guard let next = nextReady() else { return nil }
        open(next)
        return next
    }
}
