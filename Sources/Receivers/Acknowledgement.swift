import Synchronization

/// The result of one profile at one required receiver, for a waiting sender.
package enum Settlement: Sendable, Equatable {
    case delivered
    /// It was not delivered; `status` is the destination's status, 0 when it gave none, and `message` its text for the sender.
    case failed(status: Int, isRetryable: Bool, message: String = "")
    /// The gateway dropped it, because it stops or because the spool did not take it; the sender should send it again.
    case unavailable
    /// It stays in the spool, and is delivered later.
    case staysQueued

    fileprivate var isRetryable: Bool { if case .failed(_, false, _) = self { false } else { true } }
}

/// The answer that a sender waits for with `ack: delivered`: sent once every required receiver has settled every profile of the
/// request.
///
/// When several have failed, a retryable failure takes precedence over a permanent one, then the order of the config decides.
package final class Acknowledgement: Sendable {
    /// The failure that decides the answer.
    package struct Failure: Sendable, Equatable {
        package let receiver: String
        /// The result at this receiver, which is not ``Settlement/delivered``.
        package let settlement: Settlement
    }

    private struct State {
        var waiting: Int
        var worst: (rank: Int, failure: Failure)?
    }

    private let state: Mutex<State>
    private let receivers: [String]
    private let submitter: any Submitter

    /// - Parameters:
    ///   - profiles: the number of profiles in the request.
    ///   - receivers: the required receivers, in config order.
    ///   - submitter: told once.
    init(profiles: Int, receivers: [String], for submitter: any Submitter) {
        state = Mutex(State(waiting: profiles * receivers.count))
        self.receivers = receivers
        self.submitter = submitter
    }

    /// Takes the result of one profile at one receiver.
    func settle(_ settlement: Settlement, by receiver: String) {
        let result = state.withLock { state -> (isLast: Bool, failure: Failure?) in
            if settlement != .delivered {
                let position = receivers.firstIndex(of: receiver) ?? receivers.count
                let rank = settlement.isRetryable ? position : receivers.count + position
                if rank < state.worst?.rank ?? .max { state.worst = (rank, Failure(receiver: receiver, settlement: settlement)) }
            }
            state.waiting -= 1
            return (state.waiting == 0, state.worst?.failure)
        }
        if result.isLast { submitter.settled(result.failure) }
    }
}

/// Results for waiting senders, in the order in which they came; ``next()`` takes the first. A single one needs no memory.
struct Settlements: Sequence, IteratorProtocol {
    typealias Element = (Acknowledgement, Settlement)

    private var first: Element?
    private var others: ArraySlice<Element> = []

    var isEmpty: Bool { first == nil }

    mutating func append(_ result: Element) { if first == nil { first = result } else { others.append(result) } }

    mutating func next() -> Element? {
        defer { first = others.popFirst() }
        return first
    }
}
