import LinuxSystem
import PluginKit
import Synchronization

/// One profile on its way to every endpoint that still needs it; its delivery is finished when all of them have answered.
final class Dispatch: Sendable {
    let profile: Profile
    let attempt: Int
    /// The results of earlier attempts.
    let before: EndpointBits
    /// Nil when it is finished. It is not a ``SharedDelivery``, which would be another object for each profile.
    private let delivery: Mutex<Delivery?>

    init(_ profile: Profile, _ delivery: consuming Delivery) {
        self.profile = profile
        attempt = delivery.attempt
        before = EndpointBits(progress: delivery.progress)
        self.delivery = Mutex(delivery)
    }

    var identity: Availability.Attempt { Availability.Attempt(sequence: profile.sequence, number: attempt) }

    var byteCount: Int { (0..<profile.sampleCount).reduce(0) { unsafe $0 + profile.sample($1).bytes.count } }

    func finish(_ outcome: Outcome) { if let delivery = delivery.withLock({ $0.take() }) { delivery.finish(outcome) } }
}

/// The state of each endpoint that is kept in a delivery's `progress`, over attempts and restarts.
struct EndpointBits: Equatable {
    /// The most endpoints: each uses two of the 64 bits.
    static let most = 32

    /// The lower half has a bit per endpoint that needs no further attempt, the upper half one per endpoint that rejected the
    /// profile.
    private(set) var progress: UInt64

    func isSettled(_ endpoint: Int) -> Bool { progress & (1 << UInt64(endpoint)) != 0 }
    /// The first endpoint that rejected the profile.
    var refuser: Int? { progress >> UInt64(Self.most) == 0 ? nil : (progress >> UInt64(Self.most)).trailingZeroBitCount }

    mutating func settle(_ endpoint: Int, isRefusal: Bool) {
        progress |= 1 << UInt64(endpoint)
        if isRefusal { progress |= 1 << UInt64(endpoint + Self.most) }
    }
}

/// Flushes that wait for the dispatches begun before them; on the thread of the transfers only.
struct FlushQueue {
    /// The open dispatches that were begun after each of the waiting flushes, with those begun before all of them first; counted from
    /// the end of ``ended`` flushes.
    private var open = [0]
    private var ended = 0
    private var waiting: [SharedDelivery] = []

    /// Registers a dispatch, and returns the number by which its end is told.
    mutating func began() -> Int {
        open[open.count - 1] += 1
        return ended + open.count - 1
    }

    mutating func ended(_ number: Int) {
        open[number - ended] -= 1
        finishDue()
    }

    mutating func add(_ flush: SharedDelivery) {
        waiting.append(flush)
        open.append(0)
        finishDue()
    }

    private mutating func finishDue() {
        while !waiting.isEmpty, open[0] == 0 {
            open.removeFirst()
            ended += 1
            waiting.removeFirst().finish(.delivered)
        }
    }
}

/// The verdicts received so far for one dispatch; on the thread of the transfers only.
final class DispatchProgress {
    let dispatch: Dispatch
    /// The number of the dispatch for ``FlushQueue``.
    let ordinal: Int
    private var open = 0
    private var bits: EndpointBits
    private var retry: Outcome?
    private var retryAfter = Duration.zero
    private var rejection: Refusal?
    /// An endpoint that rejected the profile in an earlier attempt whose reason is no longer known.
    private let earlierRefuser: String?
    private var isAborted = false

    /// An endpoint's rejection; it is kept for the next attempt when another endpoint must be tried again.
    struct Refusal {
        let reason: String
        let httpStatus: Int
        let senderMessage: String
    }

    /// - Parameters:
    ///   - refusal: the rejection of an earlier attempt, if its reason is still known.
    ///   - refuser: the name of an endpoint that rejected the profile in an earlier attempt.
    init(_ dispatch: Dispatch, ordinal: Int, refusal: Refusal?, refuser: String?) {
        self.dispatch = dispatch
        self.ordinal = ordinal
        rejection = refusal
        earlierRefuser = refuser
        bits = dispatch.before
    }

    func needs(_ endpoint: Int) -> Bool { !dispatch.before.isSettled(endpoint) }

    func began() { open += 1 }

    /// Takes the verdict of one endpoint; `name` is for messages.
    func took(_ verdict: Verdict, of endpoint: Int, name: String) {
        switch verdict {
        case .delivered: bits.settle(endpoint, isRefusal: false)
        case .rejected(let reason, let status, let message):
            bits.settle(endpoint, isRefusal: true)
            if rejection == nil { rejection = Refusal(reason: "\(name): \(reason)", httpStatus: status, senderMessage: message) }
        case .retry(let reason, let after, let status): mustRetry("\(name): \(reason)", after, status)
        case .misanswered(let reason, let status): mustRetry("\(name): \(reason)", .zero, status)
        case .aborted: isAborted = true
        }
    }

    private func mustRetry(_ reason: String, _ after: Duration, _ status: Int) {
        // The shortest wait is used: at that time all endpoints are tried again, and those that need longer can defer the profile
        // again.
        retryAfter = retry == nil ? after : min(retryAfter, after)
        retry = .retry(reason, after: retryAfter, progress: 0, httpStatus: status)
    }

    func ended() { open -= 1 }

    /// Finishes the delivery once no attempt is open.
    ///
    /// - Returns: whether the delivery is finished, and the rejection that the next attempt must remember.
    func finishIfComplete() -> (isFinished: Bool, refusal: Refusal?) {
        guard open == 0 else { return (false, nil) }
        if isAborted {
            dispatch.finish(.aborted)
        } else if case .retry(let reason, _, _, let status) = retry {
            dispatch.finish(.retry(reason, after: retryAfter, progress: bits.progress, httpStatus: status))
            return (true, rejection)
        } else if let rejection {
            dispatch.finish(.rejected(rejection.reason, httpStatus: rejection.httpStatus, senderMessage: rejection.senderMessage))
        } else if let earlierRefuser {
            dispatch.finish(.rejected("endpoint \(earlierRefuser) refused the profile earlier", httpStatus: 0))
        } else {
            dispatch.finish(.delivered)
        }
        return (true, nil)
    }
}
