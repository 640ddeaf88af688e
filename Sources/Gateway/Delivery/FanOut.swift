import LinuxSystem
import Synchronization

/// Where a listener's profiles go: every receiver of its `forward_to`, in config order.
///
/// A reload replaces the receivers in one step: a request that is under way is handed to those that are there when its body
/// has come.
final class FanOut: Sendable {
    private let targets: Mutex<Targets>
    private let spool: Spool?

    /// - Parameter spool: where profiles are written before they are offered, for the receivers that want them on disk.
    init(receivers: [Receiver], spool: Spool? = nil) {
        targets = Mutex(Targets(receivers, spool))
        self.spool = spool
    }

    /// Sends what is submitted from here on to other receivers, or to the same ones under other rules.
    func replace(_ receivers: [Receiver]) { targets.withLock { $0 = Targets(receivers, spool) } }

    /// Why a request was turned away; nobody has its profiles then.
    enum Refusal: Sendable, Equatable {
        /// A required receiver's queue is full, and it rejects.
        case full(receiver: String)
        /// The spool has no room that this receiver would give.
        case spoolFull(receiver: String)
        /// The process has no descriptor for the spool's files.
        case noDescriptor
        /// More waits for the disk than may.
        case behind
        /// The data directory is away, for a while.
        case away
        /// Its profiles have so much in common that writing each of them would cost the disk too much.
        case repetitive
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
        let targets = targets.withLock { $0 }
        if let full = targets.reserve(profiles) { return .refused(.full(receiver: full)) }
        guard let spool, !targets.durable.isEmpty, !profiles.isEmpty else {
            targets.offer(profiles, at: nil, answer)
            return .accepted
        }
        let append = SpoolAppend(profiles: profiles, receivers: targets.durable) { result in
            switch result {
            case .success(let positions): targets.offer(profiles, at: positions, answer)
            case .failure(let failure):
                if let refusal = targets.refusal(failure) {
                    targets.cancel(profiles)
                    return stored(refusal)
                }
                targets.offer(profiles, at: nil, answer, isStored: false)
            }
            stored(nil)
        }
        let isRepetitive = append.repeatedByteCount > SpoolAppend.mostRepeated
        if !isRepetitive, spool.append(append) { return .pending }
        targets.cancel(profiles)
        return .refused(isRepetitive ? .repetitive : .behind)
    }
}

/// The receivers of a listener, with their rules as one config has them.
private struct Targets: Sendable {
    private struct Target: Sendable {
        let receiver: Receiver
        let config: ReceiverConfig
        let isDurable: Bool
    }

    private let all: [Target]
    private let required: [String]
    /// Only required receivers can turn a request away, so only they promise room before anybody commits.
    private let careful: [Target]
    /// Those whose profiles are to be in the spool.
    let durable: [String]

    init(_ receivers: [Receiver], _ spool: Spool?) {
        all = receivers.map { receiver in
            let config = receiver.config
            return Target(receiver: receiver, config: config, isDurable: spool != nil && config.queue.storage == .disk)
        }
        required = all.filter(\.config.required).map(\.config.name)
        careful = all.filter(\.config.promisesRoom)
        durable = all.filter(\.isDurable).map(\.config.name)
    }

    /// Reserves room; answers the receiver that has none, and then none is reserved.
    func reserve(_ profiles: [Profile]) -> String? {
        for (index, target) in careful.enumerated() where !target.receiver.reserve(profiles, target.config) {
            for target in careful[..<index] { target.receiver.cancelReservation(profiles, target.config) }
            return target.config.name
        }
        return nil
    }

    func cancel(_ profiles: [Profile]) {
        for target in careful { target.receiver.cancelReservation(profiles, target.config) }
    }

    /// What a failed write means: where every receiver drops, the profiles are dropped; else, and where only a descriptor is
    /// missing, the sender is to come again.
    func refusal(_ failure: SpoolFailure) -> FanOut.Refusal? {
        switch failure {
        case .full(let receiver): .spoolFull(receiver: receiver)
        // It comes back with all that is in it, so nobody drops anything for that.
        case .away: .away
        case .noDescriptor: .noDescriptor
        case .system: careful.first(where: \.isDurable).map { .spoolFull(receiver: $0.config.name) }
        }
    }

    func offer(
        _ profiles: [Profile], at positions: [SpoolPosition]?, _ answer: (@Sendable (Acknowledgement.Failure?) -> Void)?,
        isStored: Bool = true
    ) {
        var acknowledgement: Acknowledgement?
        if let answer, !required.isEmpty, !profiles.isEmpty {
            acknowledgement = Acknowledgement(profiles: profiles.count, receivers: required, answer: answer)
        }
        for target in all {
            let waiting = target.config.required ? acknowledgement : nil
            if target.isDurable, !isStored {
                target.receiver.offerUnstored(profiles, waiting, target.config)
            } else {
                target.receiver.offer(profiles, at: target.isDurable ? positions : nil, waiting, target.config)
            }
        }
        if acknowledgement == nil { answer?(nil) }
    }
}
