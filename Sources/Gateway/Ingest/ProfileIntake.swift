import LinuxSystem
import PluginABI

/// Hands the profiles of a listener's endpoints to the fan-out, and gives the answer that the listener's `ack` promises.
struct ProfileIntake: Sendable {
    let ack: AckMode
    let tenant: TenantPolicy
    let rates: RateLimiter?
    let keepHeaders: [String]
    let fanOut: FanOut
    let counters: ListenerCounters
    /// Recognizes repeated requests; nil delivers a sender's retry like any other request.
    var memory: RequestMemory?

    /// The message of a 504, after which the sender need not send again.
    static let timedOut = "no outcome yet from every required receiver; the profile stays queued and is delivered later"

    /// Reads from a request's head what all its profiles have in common.
    ///
    /// A tenant that is over its rate is refused here, before the request's body is read.
    func content(_ api: gw_api, _ head: RequestHead) throws(InvalidRequest) -> ProfileContent {
        let content = try ProfileContent(api: api, head, tenant: tenant, keeping: keepHeaders)
        let wait = rates?.wait(content.tenant, profiles: 1, bytes: head.framing.announced ?? 0)
        if let refusal = Self.refusal(content.tenant, wait ?? nil) { throw refusal }
        return content
    }

    /// Detects whether the request repeats another one; nil when the listener does not deduplicate.
    func repeats(_ content: ProfileContent, _ head: RequestHead) -> RepeatedRequest? {
        memory.map { RepeatedRequest($0, RequestHash(listener: $0.listener, content, head)) }
    }

    /// The senders whose memory a request's body takes.
    func senders(_ content: ProfileContent, _ head: RequestHead) -> [BodySender] {
        tenant.isChosenBySender ? [.tenant(content.tenant), .peer(head.peer)] : [.tenant(content.tenant)]
    }

    /// The charge of a request against its tenant's rate; nil when the listener has no rate limit.
    func charge(_ content: ProfileContent) -> RateCharge? { rates.map { RateCharge($0, content.tenant) } }

    /// The refusal of a tenant that must wait; nil when it need not.
    static func refusal(_ tenant: String, _ wait: Duration?) -> InvalidRequest? {
        wait.map { InvalidRequest(overRate(tenant), status: 429, headers: retryAfter($0)) }
    }

    private static func overRate(_ tenant: String) -> String {
        tenant.isEmpty ? "over rate_limit" : "tenant \(quotedForPeople(tenant)) is over rate_limit"
    }

    /// The Retry-After header, in whole seconds, rounded up (RFC 9110 §10.2.3).
    private static func retryAfter(_ wait: Duration) -> [(name: String, value: String)] {
        [("Retry-After", "\(max(1, (wait.inNanoseconds + 999_999_999) / 1_000_000_000))")]
    }

    /// Submits the profiles of one request.
    ///
    /// - Parameters:
    ///   - success: the answer to a request that succeeds.
    ///   - failure: builds an error answer from a status and a message, in the form of the request's API.
    /// - Returns: the answer, or nil when it is sent later through `reply`, once the profiles are stored or every required
    ///   receiver has settled.
    func submit(
        _ profiles: [Profile], _ reply: Reply, success: Response, failure: @escaping @Sendable (Int, String) -> Response
    ) -> Response? {
        for profile in profiles { counters.profiles[profile.api == .push ? 1 : 0].add() }
        let isDelivered = ack == .delivered
        var answer: (@Sendable (Acknowledgement.Failure?) -> Void)?
        if isDelivered { answer = { outcome in reply.send(outcome.map { Self.failed($0, failure) } ?? success) } }
        let stored: @Sendable (FanOut.Refusal?) -> Void = { refusal in
            if let refusal {
                reply.send(Self.refused(refusal, failure))
            } else if !isDelivered {
                reply.send(success)
            }
        }
        switch fanOut.submit(profiles, answer: answer, stored: stored) {
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

    /// The answer has the destination's own status, if there is one, and its message to the sender. With 401 and 403 the message
    /// is left out: it concerns the gateway's credentials, and could name what a sender must not know.
    private static func failed(_ outcome: Acknowledgement.Failure, _ failure: (Int, String) -> Response) -> Response {
        let receiver = quotedForPeople(outcome.receiver)
        guard 400...599 ~= outcome.status else { return failure(500, "receiver \(receiver) could not deliver the profile") }
        let message = outcome.message.isEmpty || [401, 403].contains(outcome.status) ? "" : ": \(outcome.message)"
        return failure(outcome.status, "receiver \(receiver) did not deliver the profile: status \(outcome.status)\(message)")
    }
}
