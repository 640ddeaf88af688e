/// Where a listener's profiles go: every receiver of its `forward_to`, in config order.
struct FanOut: Sendable {
    let receivers: [Receiver]

    private var required: [String] { receivers.filter(\.config.required).map(\.name) }

    /// Hands the profiles of one request to every receiver's queue: to all of them, or to none.
    ///
    /// - Parameter answer: with `ack: delivered`, called once every required receiver has settled every profile; nil when
    ///   nobody waits for that.
    /// - Returns: nil when they were accepted, else the required receiver that is full and rejects; nobody has them then.
    func submit(_ profiles: [Profile], answer: (@Sendable (Acknowledgement.Failure?) -> Void)? = nil) -> String? {
        // Only required receivers can turn a request away, so only they promise room before anybody commits.
        let careful = receivers.filter { $0.config.required && $0.config.queue.onFull == .reject }
        for (index, receiver) in careful.enumerated() where !receiver.reserve(profiles) {
            for receiver in careful[..<index] { receiver.cancelReservation(profiles) }
            return receiver.name
        }
        let required = required
        if let answer, required.isEmpty || profiles.isEmpty {
            for receiver in receivers { receiver.offer(profiles, nil) }
            answer(nil)
            return nil
        }
        let acknowledgement = answer.map { Acknowledgement(profiles: profiles.count, receivers: required, answer: $0) }
        for receiver in receivers { receiver.offer(profiles, receiver.config.required ? acknowledgement : nil) }
        return nil
    }
}
