import Synchronization

/// What became of one profile at one required receiver, for the sender who waits.
enum Settlement: Sendable, Equatable {
    case delivered
    /// It did not get there; `status` is the destination's own, 0 when it has none, and `message` what it told the sender.
    case failed(status: Int, isRetryable: Bool, message: String = "")
}

/// The answer that a sender waits for with `ack: delivered`: sent once every required receiver has settled every profile
/// of the request.
///
/// When several have failed, a retryable failure wins over a permanent one, then the order of the config.
final class Acknowledgement: Sendable {
    /// The failure that decides the answer.
    struct Failure: Sendable, Equatable {
        let receiver: String
        let status: Int
        let isRetryable: Bool
        /// The destination's own word to the sender; empty without one.
        var message = ""
    }

    private struct State {
        var waiting: Int
        var worst: (rank: Int, failure: Failure)?
    }

    private let state: Mutex<State>
    private let receivers: [String]
    private let answer: @Sendable (Failure?) -> Void

    /// - Parameters:
    ///   - profiles: how many profiles the request holds.
    ///   - receivers: the required receivers, in config order.
    ///   - answer: called once, from any thread; nil when everything was delivered.
    init(profiles: Int, receivers: [String], answer: @escaping @Sendable (Failure?) -> Void) {
        state = Mutex(State(waiting: profiles * receivers.count))
        self.receivers = receivers
        self.answer = answer
    }

    /// Takes what became of one profile at one receiver.
    func settle(_ settlement: Settlement, by receiver: String) {
        let result = state.withLock { state -> (isLast: Bool, failure: Failure?) in
            if case .failed(let status, let isRetryable, let message) = settlement {
                let position = receivers.firstIndex(of: receiver) ?? receivers.count
                let rank = isRetryable ? position : receivers.count + position
                if rank < state.worst?.rank ?? .max {
                    state.worst = (rank, Failure(receiver: receiver, status: status, isRetryable: isRetryable, message: message))
                }
            }
            state.waiting -= 1
            return (state.waiting == 0, state.worst?.failure)
        }
        if result.isLast { answer(result.failure) }
    }
}
