import LinuxSystem
package import Profiles
package import SpoolStore
import Synchronization

/// The destinations of a listener's profiles: every receiver of its `forward_to`, in config order.
///
/// A reload replaces the receivers in one step; a request in progress goes to the receivers that are set when its body is complete.
package final class FanOut: Sendable {
    private let targets: Mutex<Targets>
    private let spool: Spool?
    private let recent: Recent?

    /// - Parameters:
    ///   - spool: the spool that profiles are written to before they are offered, for receivers with disk storage.
    ///   - recent: keeps the accepted profiles for the page.
    package init(receivers: [Receiver], spool: Spool? = nil, recent: Recent? = nil) {
        targets = Mutex(Targets(receivers, spool, recent))
        (self.spool, self.recent) = (spool, recent)
    }

    /// Replaces the receivers, or the same receivers' rules, for later submissions.
    package func replace(_ receivers: [Receiver]) { targets.withLock { $0 = Targets(receivers, spool, recent) } }

    /// The reason why a request was refused; no receiver has its profiles then.
    package enum Refusal: Sendable, Equatable {
        /// The queue of a required receiver is full, and its rule is `reject`.
        case full(receiver: String)
        /// The spool is full, and this receiver does not drop profiles to make room.
        case spoolFull(receiver: String)
        /// The process has no free descriptor for the spool's files.
        case noDescriptor
        /// Too many bytes wait to be written to the spool.
        case behind
        /// The data directory is away for now.
        case away
        /// The profiles share so much data that writing a copy of it for each would cost too much disk.
        case repetitive
    }

    package enum Submission: Equatable {
        case accepted
        case refused(Refusal)
        /// The profiles are being written to the spool; `stored` is called afterwards.
        case pending
    }

    /// Adds the profiles of one request to every receiver's queue, or to none.
    ///
    /// - Parameters:
    ///   - submitter: who is told what becomes of the profiles; made only when there is something to tell later.
    ///   - waitsForDelivery: whether the submitter is told once every required receiver has settled every profile.
    package func submit(
        _ profiles: [ReceivedProfile], for submitter: @autoclosure () -> any Submitter, waitsForDelivery: Bool = false
    ) -> Submission {
        let targets = targets.withLock { $0 }
        let sizes = targets.sizes(of: profiles)
        if let full = targets.reserve(sizes) { return .refused(.full(receiver: full)) }
        guard let spool, !targets.durable.isEmpty, !profiles.isEmpty else {
            targets.offer(profiles, at: nil, sizes, waitsForDelivery ? submitter() : nil)
            return .accepted
        }
        let submitter = submitter()
        let waiting = waitsForDelivery ? submitter : nil
        let append = SpoolAppend(profiles: profiles, receivers: targets.durable) { result in
            switch result {
            case .success(let positions): targets.offer(profiles, at: positions, sizes, waiting)
            case .failure(let failure):
                if let refusal = targets.refusal(failure) {
                    targets.cancel(sizes)
                    return submitter.stored(refusal)
                }
                targets.offer(profiles, at: nil, sizes, waiting, isStored: false)
            }
            submitter.stored(nil)
        }
        let isRepetitive = append.repeatedByteCount > SpoolAppend.mostRepeated
        if !isRepetitive, spool.append(append) { return .pending }
        targets.cancel(sizes)
        return .refused(isRepetitive ? .repetitive : .behind)
    }
}

/// Who has submitted profiles, and is told what becomes of them; from any thread.
package protocol Submitter: AnyObject, Sendable {
    /// The profiles were stored, or refused; called once after ``FanOut/Submission/pending``.
    func stored(_ refusal: FanOut.Refusal?)
    /// Every required receiver has settled every profile; `failure` decides the answer, and is nil when all were delivered.
    func settled(_ failure: Acknowledgement.Failure?)
}

/// The receivers of a listener, each with its rules under one config.
///
/// A class, because each submission refers to all of it.
private final class Targets: Sendable {
    private struct Target: Sendable {
        let receiver: Receiver
        let bounds: QueueConfig
        let isRequired: Bool
        let promisesRoom: Bool
        let isDurable: Bool

        var name: String { receiver.name }
        func size(_ sizes: Sizes) -> [Int] { isDurable ? sizes.onDisk : sizes.inMemory }
    }

    private let all: [Target]
    private let required: [String]
    /// The receivers that reserve room before a request is accepted: only required ones that reject can refuse a request.
    private let careful: [Target]
    /// The names of the receivers whose profiles are written to the spool.
    let durable: [String]
    private let names: [String]
    private let recent: FanOut.Recent?

    init(_ receivers: [Receiver], _ spool: Spool?, _ recent: FanOut.Recent?) {
        self.recent = recent
        names = receivers.map(\.name)
        all = receivers.map { receiver in
            let config = receiver.config
            return Target(
                receiver: receiver, bounds: config.queue, isRequired: config.required, promisesRoom: config.promisesRoom,
                isDurable: spool != nil && config.queue.storage == .disk)
        }
        required = all.filter(\.isRequired).map(\.name)
        careful = all.filter(\.promisesRoom)
        durable = all.filter(\.isDurable).map(\.name)
    }

    /// The sizes of profiles in a queue in memory and in one on disk; empty where no receiver reserves room.
    struct Sizes: Sendable {
        var inMemory: [Int] = []
        var onDisk: [Int] = []
    }

    func sizes(of profiles: [ReceivedProfile]) -> Sizes {
        var sizes = Sizes()
        if careful.contains(where: { !$0.isDurable }) { sizes.inMemory = profiles.map(\.byteCount) }
        if careful.contains(where: \.isDurable) {
            let head = SpoolRecord.headLength(durable)
            sizes.onDisk = profiles.map { head + $0.encodedByteCount }
        }
        return sizes
    }

    /// Reserves room in all receivers that must; returns the name of a receiver that has none, and then nothing is reserved.
    func reserve(_ sizes: Sizes) -> String? {
        for (index, target) in careful.enumerated() where !target.receiver.reserve(target.size(sizes), target.bounds) {
            for target in careful[..<index] { target.receiver.cancelReservation(target.size(sizes), target.bounds) }
            return target.name
        }
        return nil
    }

    func cancel(_ sizes: Sizes) {
        for target in careful { target.receiver.cancelReservation(target.size(sizes), target.bounds) }
    }

    /// The refusal that a failed write leads to; nil when the profiles are dropped because every receiver drops. When the cause is
    /// temporary, or a receiver rejects, the sender is to retry.
    func refusal(_ failure: SpoolFailure) -> FanOut.Refusal? {
        switch failure {
        case .full(let receiver): .spoolFull(receiver: receiver)
        // The directory will come back with its contents, so no receiver drops anything because of it.
        case .away: .away
        case .noDescriptor: .noDescriptor
        case .system: careful.first(where: \.isDurable).map { .spoolFull(receiver: $0.name) }
        }
    }

    func offer(
        _ profiles: [ReceivedProfile], at positions: [SpoolPosition]?, _ sizes: Sizes, _ waiting: (any Submitter)?,
        isStored: Bool = true
    ) {
        // Before the receivers get them, and tell what becomes of them.
        recent?.add(profiles, to: names)
        var acknowledgement: Acknowledgement?
        if let waiting, !required.isEmpty, !profiles.isEmpty {
            acknowledgement = Acknowledgement(profiles: profiles.count, receivers: required, for: waiting)
        }
        let now = MonotonicTime.now
        for target in all {
            let told = target.isRequired ? acknowledgement : nil
            let reserved = target.promisesRoom ? target.size(sizes) : nil
            if target.isDurable, !isStored {
                target.receiver.offerUnstored(profiles, told, reserved: reserved, target.bounds, now)
            } else {
                target.receiver.offer(profiles, at: target.isDurable ? positions : nil, told, reserved: reserved, target.bounds, now)
            }
        }
        if acknowledgement == nil { waiting?.settled(nil) }
    }
}
