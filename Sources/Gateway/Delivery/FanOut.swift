import LinuxSystem

/// Where a listener's profiles go: every receiver of its `forward_to`, in config order.
struct FanOut: Sendable {
    let receivers: [Receiver]
    /// Where profiles are written before they are offered, for the receivers that want them on disk.
    var spool: Spool?

    private var required: [String] { receivers.filter(\.config.required).map(\.name) }

    /// Why a request was turned away; nobody has its profiles then.
    enum Refusal: Sendable, Equatable {
        /// A required receiver's queue is full, and it rejects.
        case full(receiver: String)
        /// The spool has no room that this receiver would give.
        case spoolFull(receiver: String)
        /// More waits for the disk than may.
        case behind
    }

    enum Submission: Equatable {
        case accepted
        case refused(Refusal)
        /// The spool is written to; `stored` is called.
        case pending
    }

    /// Hands the profiles of one request to every receiver's queue: to all of them, or to none.
    ///
    /// - Parameters:
    ///   - answer: with `ack: delivered`, called once every required receiver has settled every profile; nil when nobody waits
    ///     for that.
    ///   - stored: after ``Submission/pending``, called once from another thread: nil when they were accepted.
    func submit(
        _ profiles: [Profile], answer: (@Sendable (Acknowledgement.Failure?) -> Void)? = nil,
        stored: @escaping @Sendable (Refusal?) -> Void = { _ in }
    ) -> Submission {
        // Only required receivers can turn a request away, so only they promise room before anybody commits.
        let careful = receivers.filter(\.config.promisesRoom)
        for (index, receiver) in careful.enumerated() where !receiver.reserve(profiles) {
            for receiver in careful[..<index] { receiver.cancelReservation(profiles) }
            return .refused(.full(receiver: receiver.name))
        }
        let durable = receivers.filter(\.isOnDisk).map(\.name)
        guard let spool, !durable.isEmpty, !profiles.isEmpty else {
            offer(profiles, at: nil, answer)
            return .accepted
        }
        let append = SpoolAppend(profiles: profiles, receivers: durable) { result in
            switch result {
            case .success(let positions): offer(profiles, at: positions, answer)
            case .failure(let failure):
                if let refusal = refusal(failure) {
                    for receiver in careful { receiver.cancelReservation(profiles) }
                    return stored(refusal)
                }
                offer(profiles, at: nil, answer, unstored: true)
            }
            stored(nil)
        }
        if spool.append(append) { return .pending }
        for receiver in careful { receiver.cancelReservation(profiles) }
        return .refused(.behind)
    }

    /// What a failed write means: where every receiver drops, the profiles are dropped; else the sender is to come again.
    private func refusal(_ failure: SpoolFailure) -> Refusal? {
        switch failure {
        case .full(let receiver): .spoolFull(receiver: receiver)
        case .system: receivers.first { $0.isOnDisk && $0.config.promisesRoom }.map { .spoolFull(receiver: $0.name) }
        }
    }

    private func offer(
        _ profiles: [Profile], at positions: [SpoolPosition]?, _ answer: (@Sendable (Acknowledgement.Failure?) -> Void)?,
        unstored: Bool = false
    ) {
        let required = required
        var acknowledgement: Acknowledgement?
        if let answer, !required.isEmpty, !profiles.isEmpty {
            acknowledgement = Acknowledgement(profiles: profiles.count, receivers: required, answer: answer)
        }
        for receiver in receivers {
            let waiting = receiver.config.required ? acknowledgement : nil
            if unstored, receiver.isOnDisk {
                receiver.offerUnstored(profiles, waiting)
            } else {
                receiver.offer(profiles, at: receiver.isOnDisk ? positions : nil, waiting)
            }
        }
        if acknowledgement == nil { answer?(nil) }
    }
}
