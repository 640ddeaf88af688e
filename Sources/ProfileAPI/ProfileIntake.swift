import HTTPServer
import LinuxSystem
import PluginABI
import Profiles
package import Receivers
import SpoolStore
package import Telemetry

/// Hands the profiles of a listener's endpoints to the fan-out, and gives the answer that the listener's `ack` promises.
package final class ProfileIntake: Sendable {
    let ack: AckMode
    let tenant: TenantPolicy
    package let rates: RateLimiter?
    let keepHeaders: [String]
    let fanOut: FanOut
    let counters: ProfileCounters
    /// Recognizes repeated requests; nil delivers a sender's retry like any other request.
    private let memory: RequestMemory?

    package init(
        ack: AckMode, tenant: TenantPolicy, rates: RateLimiter?, keepHeaders: [String], fanOut: FanOut, counters: ProfileCounters,
        memory: RequestMemory? = nil
    ) {
        self.ack = ack
        self.tenant = tenant
        self.rates = rates
        self.keepHeaders = keepHeaders
        self.fanOut = fanOut
        self.counters = counters
        self.memory = memory
    }

    /// Reads from a request's head what all its profiles have in common.
    ///
    /// A tenant that is over its rate is refused here, before the request's body is read.
    ///
    /// - Parameter path: the path of the profiles, however the sender wrote it.
    func content(_ api: gw_api, _ head: RequestHead, path: String) throws(InvalidRequest) -> ProfileContent {
        let content = try ProfileContent(api: api, head, path: path, tenant: tenant, keeping: keepHeaders)
        let wait = rates?.wait(content.tenant, profiles: 1, bytes: head.framing.announced ?? 0)
        if let refusal = Self.refusal(content.tenant, wait ?? nil) { throw refusal }
        return content
    }

    /// Detects whether the request repeats another one; nil when the listener does not deduplicate.
    func repeats(_ content: borrowing ProfileContent, _ head: RequestHead) -> RepeatedRequest? {
        guard let memory else { return nil }
        return RepeatedRequest(memory, RequestHash(listener: memory.listener, content, head))
    }

    /// The senders whose memory a request's body takes.
    func senders(_ tenant: String, _ head: RequestHead) -> [BodySender] {
        self.tenant.isChosenBySender ? [.tenant(tenant), .peer(head.peer)] : [.tenant(tenant)]
    }

    /// The charge of a request against its tenant's rate; nil when the listener has no rate limit.
    func charge(_ tenant: String) -> RateCharge? { rates.map { RateCharge($0, tenant) } }

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

    /// Submits the profiles of one request; the answer is sent through `reply`, at once, or once the profiles are stored or every
    /// required receiver has settled.
    func submit(_ profiles: [ReceivedProfile], _ form: AnswerForm, _ reply: Reply) {
        for profile in profiles { counters.count(profile.api) }
        let waits = ack == .delivered
        switch fanOut.submit(profiles, for: PendingAnswer(form: form, waitsForDelivery: waits, reply), waitsForDelivery: waits) {
        case .refused(let refusal): reply.send(form.failure(refusal))
        case .accepted where !waits: reply.send(form.success)
        case .accepted, .pending: break
        }
    }
}

/// The answer to a sender, sent when the spool or the receivers have decided.
private final class PendingAnswer: Submitter {
    private let form: AnswerForm
    private let waitsForDelivery: Bool
    private let reply: Reply

    init(form: AnswerForm, waitsForDelivery: Bool, _ reply: Reply) {
        (self.form, self.waitsForDelivery, self.reply) = (form, waitsForDelivery, reply)
    }

    func stored(_ refusal: FanOut.Refusal?) {
        if let refusal { reply.send(form.failure(refusal)) } else if !waitsForDelivery { reply.send(form.success) }
    }

    func settled(_ failure: Acknowledgement.Failure?) { reply.send(failure.map(form.failure) ?? form.success) }
}

extension AnswerForm {
    fileprivate func failure(_ refusal: FanOut.Refusal) -> Response {
        switch refusal {
        case .full(let receiver): failure(503, "the queue of receiver \(quotedForPeople(receiver)) is full")
        case .spoolFull(let receiver): failure(503, "the spool has no room for receiver \(quotedForPeople(receiver))")
        case .noDescriptor: failure(503, "the spool has no free file descriptor")
        case .behind: failure(503, "the spool is behind: too much waits for the disk")
        case .away: failure(503, "the spool cannot be reached just now")
        case .repetitive:
            failure(400, "query and headers, once for each series, are more than \(readableSize(SpoolAppend.mostRepeated))")
        }
    }

    /// The answer has the destination's own status, if there is one, and its message to the sender. With 401 and 403 the message
    /// is left out: it concerns the gateway's credentials, and could name what a sender must not know.
    fileprivate func failure(_ failure: Acknowledgement.Failure) -> Response {
        let receiver = quotedForPeople(failure.receiver)
        var (status, detail) = (500, "")
        switch failure.settlement {
        case .unavailable: status = 503
        case .staysQueued: status = 504
        case .failed(let given, _, let message) where 400...599 ~= given:
            status = given
            if !message.isEmpty, ![401, 403].contains(given) { detail = ": \(message)" }
        case .failed, .delivered: return self.failure(500, "receiver \(receiver) could not deliver the profile")
        }
        return self.failure(status, "receiver \(receiver) did not deliver the profile: status \(status)\(detail)")
    }
}

/// The numbers of profiles that a listener has received, by API.
package final class ProfileCounters: Sendable {
    package let ingest = Counter()
    package let push = Counter()

    package init() {}

    func count(_ api: gw_api) { (api == .push ? push : ingest).add() }
}
