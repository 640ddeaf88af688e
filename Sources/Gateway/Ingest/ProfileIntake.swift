import LinuxSystem
import PluginABI

/// Where the endpoints of a listener hand their profiles to: the fan-out, and the answer that the listener promises.
struct ProfileIntake: Sendable {
    let ack: AckMode
    let tenant: TenantPolicy
    let rates: RateLimiter?
    let keepHeaders: [String]
    let fanOut: FanOut
    let counters: ListenerCounters
    /// nil delivers a sender's retry like any other request.
    var memory: RequestMemory?

    /// The message of a 504: the sender need not send again.
    static let timedOut = "no outcome yet from every required receiver; the profile stays queued and is delivered later"

    /// What the listener takes from a request's head, for each of its profiles.
    ///
    /// A tenant over its rate is refused here already, before its body is read.
    func content(_ api: gw_api, _ head: RequestHead) throws(InvalidRequest) -> ProfileContent {
        let content = try ProfileContent(api: api, head, tenant: tenant, keeping: keepHeaders)
        let wait = rates?.wait(content.tenant, profiles: 1, bytes: head.framing.announced ?? 0)
        if let refusal = Self.refusal(content.tenant, wait ?? nil) { throw refusal }
        return content
    }

    /// What tells a request from its repeats, where the listener does.
    func repeats(_ content: ProfileContent, _ head: RequestHead) -> RepeatedRequest? {
        memory.map { RepeatedRequest($0, RequestHash(listener: $0.listener, content, head)) }
    }

    /// Whose memory a request's body takes.
    func senders(_ content: ProfileContent, _ head: RequestHead) -> [BodySender] {
        tenant.isChosenBySender ? [.tenant(content.tenant), .peer(head.peer)] : [.tenant(content.tenant)]
    }

    /// What a request is charged by; nil where nobody is.
    func charge(_ content: ProfileContent) -> RateCharge? { rates.map { RateCharge($0, content.tenant) } }

    /// The refusal of a tenant that is to wait; nil when it need not.
    static func refusal(_ tenant: String, _ wait: Duration?) -> InvalidRequest? {
        wait.map { InvalidRequest(overRate(tenant), status: 429, headers: retryAfter($0)) }
    }

    private static func overRate(_ tenant: String) -> String {
        tenant.isEmpty ? "over rate_limit" : "tenant \(quotedForPeople(tenant)) is over rate_limit"
    }

    /// Whole seconds, rounded up (RFC 9110 §10.2.3).
    private static func retryAfter(_ wait: Duration) -> [(name: String, value: String)] {
        [("Retry-After", "\(max(1, (wait.inNanoseconds + 999_999_999) / 1_000_000_000))")]
    }

    /// Submits the profiles of one request.
    ///
    /// - Parameters:
    ///   - success: what the sender gets when all is well.
    ///   - failure: writes an error from a status and a message, as the request's API does.
    /// - Returns: the answer, or nil when it goes through `reply` once every required receiver has settled.
    func submit(
        _ profiles: [Profile], _ reply: Reply, success: Response, failure: @escaping @Sendable (Int, String) -> Response
    ) -> Response? {
        for profile in profiles { counters.profiles[profile.api == .push ? 1 : 0].add() }
        let isDelivered = ack == .delivered
        let answer: @Sendable (Acknowledgement.Failure?) -> Void = { outcome in
            reply.send(outcome.map { Self.failed($0, failure) } ?? success)
        }
        let stored: @Sendable (FanOut.Refusal?) -> Void = { refusal in
            if let refusal {
                reply.send(Self.refused(refusal, failure))
            } else if !isDelivered {
                reply.send(success)
            }
        }
        switch fanOut.submit(profiles, answer: isDelivered ? answer : nil, stored: stored) {
        case .refused(let refusal): return Self.refused(refusal, failure)
        case .accepted: return isDelivered ? nil : success
        case .pending: return nil
        }
    }

    private static func refused(_ refusal: FanOut.Refusal, _ failure: (Int, String) -> Response) -> Response {
        switch refusal {
        case .full(let receiver): failure(503, "the queue of receiver \(quotedForPeople(receiver)) is full")
        case .spoolFull(let receiver): failure(503, "the spool has no room for receiver \(quotedForPeople(receiver))")
        case .noDescriptor: failure(503, "the spool has no free file descriptor")
        case .behind: failure(503, "the spool is behind: too much waits for the disk")
        case .away: failure(503, "the spool cannot be reached just now")
        case .repetitive: failure(400, "query and headers, once for each series, are more than \(readableSize(SpoolAppend.mostRepeated))")
        }
    }

    /// The destination's own status where it has one, and what it told the sender; never what it told us, which could name what a
    /// sender must not know.
    private static func failed(_ outcome: Acknowledgement.Failure, _ failure: (Int, String) -> Response) -> Response {
        let receiver = quotedForPeople(outcome.receiver)
        guard 400...599 ~= outcome.status else { return failure(500, "receiver \(receiver) could not deliver the profile") }
        let message = outcome.message.isEmpty || [401, 403].contains(outcome.status) ? "" : ": \(outcome.message)"
        return failure(outcome.status, "receiver \(receiver) did not deliver the profile: status \(outcome.status)\(message)")
    }
}
