import Synchronization

/// The result of one profile at one required receiver, for a waiting sender.
enum Settlement: Sendable, Equatable {
    case delivered
    /// It was not delivered; `status` is the destination's status, 0 when it gave none, and `message` its text for the sender.
    case failed(status: Int, isRetryable: Bool, message: String = "")
}

/// The answer that a sender waits for with `ack: delivered`: sent once every required receiver has settled every profile of the
/// request.
///
/// When several have failed, a retryable failure takes precedence over a permanent one, then the order of the config decides.
final class Acknowledgement: Sendable {
    /// The failure that decides the answer.
    struct Failure: Sendable, Equatable {
        let receiver: String
        let status: Int
        let isRetryable: Bool
        /// The destination's text for the sender; empty when there is none.
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
    ///   - profiles: the number of profiles in the request.
    ///   - receivers: the required receivers, in config order.
    ///   - answer: called once, from any thread; nil when everything was delivered.
    init(profiles: Int, receivers: [String], answer: @escaping @Sendable (Failure?) -> Void) {
        state = Mutex(State(waiting: profiles * receivers.count))
        self.receivers = receivers
        self.answer = answer
    }

    /// Takes the result of one profile at one receiver.
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
