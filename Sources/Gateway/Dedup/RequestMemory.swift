import LinuxSystem
import Synchronization

/// What a listener knows of the requests within its `dedup_window`, so that a sender's own retry is not delivered again.
///
/// While a request is open, identical ones wait for its outcome. An accepted one is remembered, a failed one is forgotten.
final class RequestMemory: Sendable {
    /// Tells a sender what became of its request.
    typealias Tell = @Sendable (Response) -> Void

    /// A request that is the first of its kind; whoever has it says once what became of it.
    struct Ticket: Sendable {
        let key: RequestKey
        fileprivate let number: UInt64
    }

    enum Admission {
        /// It is to be served, and settled.
        case first(Ticket)
        /// It was accepted before.
        case answered
        /// It is told of the outcome of the one that came before it.
        case waiting
    }

    fileprivate struct Open {
        let number: UInt64
        /// Identical requests that came later, one a connection at most; each with what it gets when all is well.
        var waiting: [ConnectionKey: (success: Response, tell: Tell)] = [:]
    }

    fileprivate struct State {
        var open: [RequestKey: Open] = [:]
        var accepted: AcceptedRequests
        var nextNumber: UInt64 = 0
    }

    /// What is known of a listener's requests, whatever window its config gives them: a reload keeps it.
    final class Known: Sendable {
        /// How many requests got the answer of another one.
        let deduplicated = Counter()
        fileprivate let state: Mutex<State>

        init(limit: Int = AcceptedRequests.most) { state = Mutex(State(accepted: AcceptedRequests(limit: limit))) }
    }

    let listener: String
    /// What is accepted is remembered for so long, whatever the window is later.
    let window: Duration
    private let listenerSum: UInt32
    private let journal: RequestJournal?
    private let known: Known

    /// - Parameter journal: where accepted requests are noted for the next start.
    init(listener: String, window: Duration, journal: RequestJournal? = nil, known: Known = Known()) {
        (self.listener, self.window, self.journal, self.known) = (listener, window, journal, known)
        listenerSum = AcceptedRequest.sum(of: listener)
    }

    /// Whether a request is the first of its kind.
    ///
    /// - Parameters:
    ///   - success: what it gets when it was accepted.
    ///   - tell: called when it waits: once, from any thread, unless it leaves before.
    func admit(
        _ key: RequestKey, from connection: ConnectionKey, now: MonotonicTime = .now, success: Response, tell: @escaping Tell
    ) -> Admission {
        let admission = known.state.withLock { $0.admit(key, connection, now, (success, tell)) }
        if case .answered = admission { known.deduplicated.add() }
        return admission
    }

    /// Takes a waiting request back, as when its connection is gone.
    func leave(_ key: RequestKey, from connection: ConnectionKey) {
        known.state.withLock { $0.open[key]?.waiting[connection] = nil }
    }

    /// Takes what became of a first request.
    ///
    /// - Parameter send: sends its response, when that has to wait for the disk; from any thread.
    /// - Returns: the response where it need not wait.
    func settle(_ ticket: Ticket, _ response: Response, send: @escaping Tell) -> Response? {
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

    /// Forgets a first request of which nothing comes; those that wait for it get this response.
    func giveUp(_ ticket: Ticket, _ response: Response) { close(ticket, response) }

    private func close(_ ticket: Ticket, _ response: Response, now: MonotonicTime = .now) {
        let isSuccess = response.isSuccess
        let waiting = known.state.withLock { $0.close(ticket, until: isSuccess ? now + window : nil) }
        if isSuccess { known.deduplicated.add(waiting.count) }
        for (success, tell) in waiting { tell(isSuccess ? success : response) }
    }

    /// Remembers a request that was accepted before this start.
    func restore(_ request: AcceptedRequest, now: MonotonicTime, unixNow: Int64) {
        let left = request.left(unixNow: unixNow, window: window)
        guard request.listener == listenerSum, left > .zero else { return }
        known.state.withLock { $0.accepted.insert(request.key, until: now + left) }
    }

    /// How many requests are remembered, and how many are open.
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

    /// - Parameter expiry: until when it is remembered; nil when it failed.
    /// - Returns: who waits for it; nobody when it was closed before.
    fileprivate mutating func close(_ ticket: RequestMemory.Ticket, until expiry: MonotonicTime?) -> [(Response, RequestMemory.Tell)] {
        guard let closed = open[ticket.key], closed.number == ticket.number else { return [] }
        open[ticket.key] = nil
        if let expiry { accepted.insert(ticket.key, until: expiry) }
        return Array(closed.waiting.values)
    }
}

extension Response {
    /// Whether it says that the request was accepted; every answer of gRPC-Web is a 200 to HTTP.
    var isSuccess: Bool { (outcome ?? status) == 200 }
}
