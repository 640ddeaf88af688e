import LinuxSystem
import PluginKit
import Synchronization

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

/// A flush of which each loop of an instance ends a part. Thread-safe.
final class SharedFlush: Sendable {
    private let delivery: SharedDelivery
    private let open: Atomic<Int>

    init(_ delivery: SharedDelivery, parts: Int) {
        self.delivery = delivery
        open = Atomic(parts)
    }

    /// Ends a part; the last one finishes the flush.
    func endPart() { if open.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { delivery.finish(.delivered) } }
}

/// Flushes that wait for the dispatches begun before them; on the thread of the transfers only.
final class FlushQueue {
    /// The flushes that wait, each with the open dispatches that were begun between the one before it and itself.
    private var waiting: [(number: Int, open: Int, flush: SharedFlush)] = []
    /// How many flushes there have been.
    private var number = 0
    /// The open dispatches that were begun after the last flush.
    private var open = 0

    /// Registers a dispatch, and returns the number by which its end is told.
    func began() -> Int {
        open += 1
        return number
    }

    func ended(_ number: Int) {
        if number == self.number {
            open -= 1
        } else if let index = waiting.firstIndex(where: { $0.number == number }) {
            waiting[index].open -= 1
            finishDue()
        }
    }

    func add(_ flush: SharedFlush) {
        waiting.append((number, open, flush))
        (number, open) = (number + 1, 0)
        finishDue()
    }

    private func finishDue() { while let first = waiting.first, first.open == 0 { waiting.removeFirst().flush.endPart() } }
}

/// The dispatches whose profiles one request carries, usually one; only several need an array.
struct DispatchList: RandomAccessCollection {
    private let first: Dispatch?
    private let others: [Dispatch]

    init() { (first, others) = (nil, []) }

    init(_ only: Dispatch) { (first, others) = (only, []) }

    init(_ all: some Collection<Dispatch>) { (first, others) = (all.first, Array(all.dropFirst())) }

    var startIndex: Int { 0 }
    var endIndex: Int { first == nil ? 0 : 1 + others.count }

    /// Calls `body` with each of them; cheaper than a loop, which copies the list.
    func each(_ body: (Dispatch) -> Void) {
        if let first { body(first) }
        for other in others { body(other) }
    }

    subscript(index: Int) -> Dispatch {
        if index > 0 { return others[index - 1] }
        guard let first else { preconditionFailure("no dispatch has this index") }
        return first
    }
}

/// One profile on its way to every endpoint that still needs it, and the verdicts received so far; its delivery is finished when all of
/// them have answered. On the thread of the transfers only.
final class Dispatch {
    let profile: Profile
    /// Carries this profile alone; as the sender sent it until ``makeRequest(_:)``.
    private(set) var request: UpstreamRequest
    let attempt: Int
    /// The number of the dispatch for ``FlushQueue``.
    let ordinal: Int
    /// Nil when it is finished.
    private var delivery: Delivery?
    /// The results of earlier attempts.
    private let before: EndpointBits
    private var bits: EndpointBits
    private var open = 0
    private var retry: Outcome?
    private var retryAfter = Duration.zero
    private var rejection: Refusal?
    private var isAborted = false

    /// An endpoint's rejection; it is kept for the next attempt when another endpoint must be tried again.
    struct Refusal {
        let reason: String
        let httpStatus: Int
        let senderMessage: String
    }

    /// - Parameter refusal: the rejection of an earlier attempt, if its reason is still known.
    init(_ profile: Profile, _ delivery: consuming Delivery, ordinal: Int, refusal: Refusal?) {
        (self.profile, request, self.ordinal, rejection) = (profile, .received(profile), ordinal, refusal)
        attempt = delivery.attempt
        before = EndpointBits(progress: delivery.progress)
        bits = before
        self.delivery = consume delivery
    }

    /// Makes the request, as the config wants it.
    func makeRequest(_ config: WriterConfig) throws(UpstreamRequest.Refusal) { request = try UpstreamRequest.of(profile, config) }

    var identity: Availability.Attempt { Availability.Attempt(sequence: profile.sequence, number: attempt) }

    func needs(_ endpoint: Int) -> Bool { !before.isSettled(endpoint) }

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
    /// - Parameter endpoints: for the name of one that rejected the profile in an earlier attempt whose reason is no longer known.
    /// - Returns: whether the delivery is finished, and the rejection that the next attempt must remember.
    func finishIfComplete(_ endpoints: [Endpoint]) -> (isFinished: Bool, refusal: Refusal?) {
        guard open == 0 else { return (false, nil) }
        if isAborted {
            finish(.aborted)
        } else if case .retry(let reason, _, _, let status) = retry {
            finish(.retry(reason, after: retryAfter, progress: bits.progress, httpStatus: status))
            return (true, rejection)
        } else if let rejection {
            finish(.rejected(rejection.reason, httpStatus: rejection.httpStatus, senderMessage: rejection.senderMessage))
        } else if let refuser = before.refuser, refuser < endpoints.count {
            finish(.rejected("endpoint \(endpoints[refuser].config.name) refused the profile earlier", httpStatus: 0))
        } else {
            finish(.delivered)
        }
        return (true, nil)
    }

    private func finish(_ outcome: Outcome) { if let delivery = delivery.take() { delivery.finish(outcome) } }
}
