/// Where a listener's profiles go: every receiver of its `forward_to`, in config order.
struct FanOut: Sendable {
    let receivers: [Receiver]

    /// Hands the profiles of one request to every receiver's queue; waits for none of them.
    func submit(_ profiles: [Profile]) {
        for receiver in receivers { receiver.offer(profiles) }
    }
}
