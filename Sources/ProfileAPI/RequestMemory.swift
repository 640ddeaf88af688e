import HTTPServer
import LinuxSystem
import Synchronization
import Telemetry

/// A listener's memory of the requests within its `dedup_window`, so that a retry by a sender is not delivered again.
///
/// While a request is being served, identical ones wait for its outcome. An accepted request is remembered, a failed one is
/// forgotten.
package final class RequestMemory: Sendable {
    /// Sends a sender the response to its request.
    typealias Tell = @Sendable (Response) -> Void

    /// A request that is the first of its kind; its holder must report the outcome exactly once.
    struct Ticket: Sendable {
        let key: RequestKey
        fileprivate let number: UInt64
    }

    enum Admission {
        /// The request is to be served, and its outcome reported with ``finish(_:_:send:)`` or ``giveUp(_:_:)``.
        case first(Ticket)
        /// An identical request was accepted before.
        case answered
        /// The request gets the outcome of the identical one that is being served.
        case waiting
    }

    fileprivate struct Open {
        let number: UInt64
        /// Identical requests that wait, at most one per connection; each with the response that it gets on success.
        var waiting: [ConnectionKey: (success: Response, tell: Tell)] = [:]
    }

    fileprivate struct State {
        var open: [RequestKey: Open] = [:]
        var accepted: AcceptedRequests
        var nextNumber: UInt64 = 0
    }

    /// The remembered requests of a listener, shared by all configs so that a reload keeps them.
    final class Remembered: Sendable {
        /// The number of requests that were answered with another request's outcome.
        let deduplicated = Counter()
        fileprivate let state: Mutex<State>

        init(limit: Int = AcceptedRequests.most) { state = Mutex(State(accepted: AcceptedRequests(limit: limit))) }
    }

    let listener: String
    /// The time for which accepted requests are remembered; a later change of the window does not affect them.
    let window: Duration
    private let listenerSum: UInt32
    private let journal: RequestJournal?
    private let known: Remembered

    /// - Parameter journal: the journal that accepted requests are noted in for the next start; nil for none.
    init(listener: String, window: Duration, journal: RequestJournal? = nil, known: Remembered = Remembered()) {
        (self.listener, self.window, self.journal, self.known) = (listener, window, journal, known)
        listenerSum = AcceptedRequest.sum(of: listener)
    }

    /// Decides whether a request is served, answered at once, or made to wait.
    ///
    /// - Parameters:
    ///   - success: the response that it gets if an identical request was accepted.
    ///   - tell: called once, from any thread, if the request waits and does not leave before.
    func admit(
        _ key: RequestKey, from connection: ConnectionKey, now: MonotonicTime = .now, success: Response, tell: @escaping Tell
    ) -> Admission {
        let admission = known.state.withLock { $0.admit(key, connection, now, (success, tell)) }
        if case .answered = admission { known.deduplicated.add() }
        return admission
    }

    /// Removes a waiting request, for example when its connection is closed.
    func stopWaiting(_ key: RequestKey, from connection: ConnectionKey) {
        known.state.withLock { $0.open[key]?.waiting[connection] = nil }
    }

    /// Reports the outcome of a request that was the first of its kind.
    ///
    /// - Parameter send: called with the response, from any thread, if it has to wait for the journal.
    /// - Returns: the response if it can be sent at once; otherwise nil.
    func finish(_ ticket: Ticket, _ response: Response, send: @escaping Tell) -> Response? {
        guard response.isSuccess, let journal else {
            close(ticket, response)
            return response
        }
        journal.append(AcceptedRequest(key: ticket.key, listener: listener, window: window)) { [self] in
            close(ticket, response)
            send(response)
        }
        return nil
    }

    /// Forgets a request that is not completed; identical ones that wait for it get this response.
    func giveUp(_ ticket: Ticket, _ response: Response) { close(ticket, response) }

    private func close(_ ticket: Ticket, _ response: Response, now: MonotonicTime = .now) {
        let isSuccess = response.isSuccess
        let waiting = known.state.withLock { $0.close(ticket, until: isSuccess ? now + window : nil) }
        if isSuccess { known.deduplicated.add(waiting.count) }
        for (success, tell) in waiting { tell(isSuccess ? success : response) }
    }

    /// Remembers a request that was accepted by an earlier run.
    func restore(_ request: AcceptedRequest, now: MonotonicTime, unixNow: Int64) {
        let left = request.left(unixNow: unixNow, window: window)
        guard request.listener == listenerSum, left > .zero else { return }
        known.state.withLock { $0.accepted.insert(request.key, until: now + left) }
    }

    /// The numbers of requests that are remembered and that are being served.
    var counts: (accepted: Int, open: Int) { known.state.withLock { ($0.accepted.count, $0.open.count) } }
}

extension RequestMemory.State {
    fileprivate mutating func admit(
        _ key: RequestKey, _ connection: ConnectionKey, _ now: MonotonicTime, _ waiter: (Response, RequestMemory.Tell)
    ) -> RequestMemory.Admission {
        accepted.forgetExpired(now: now)
        if accepted.contains(key, now: now) { return .answered }
        if open[key] != nil {
            open[key]?.waiting[connection] = waiter
            return .waiting
        }
        nextNumber += 1
        open[key] = RequestMemory.Open(number: nextNumber)
        return .first(RequestMemory.Ticket(key: key, number: nextNumber))
    }

    /// - Parameter expiry: the time until which the request is remembered; nil when it failed.
    /// - Returns: the identical requests that wait for it; none when it was closed before.
    fileprivate mutating func close(_ ticket: RequestMemory.Ticket, until expiry: MonotonicTime?) -> [(Response, RequestMemory.Tell)] {
        guard let closed = open[ticket.key], closed.number == ticket.number else { return [] }
        open[ticket.key] = nil
        if let expiry { accepted.insert(ticket.key, until: expiry) }
        return Array(closed.waiting.values)
    }
}

extension Response {
    /// Whether the request was accepted; the gRPC-Web outcome decides where there is one, because its HTTP status is always 200.
    var isSuccess: Bool { (outcome ?? status) == 200 }
}
