import HTTPServer
import LinuxSystem
import Profiles

/// One request that brings profiles, from its head to its answer; used on the event loop of its connection.
///
/// Each API has a subclass, which makes profiles of the body.
class ProfileRequest: RequestHandler {
    let intake: ProfileIntake
    let tenant: String
    let form: AnswerForm
    let bodyLimit: Int
    let timeLimit: Duration?
    let senders: [BodySender]
    /// The charge against its tenant's rate; nil when the listener has no rate limit.
    let charge: RateCharge?
    /// Detects whether it repeats another request; nil when the listener does not deduplicate.
    let repeats: RepeatedRequest?
    /// The profiles, kept until the answer is sent: the event loop then gives back the memory that it took for them. A receiver's thread
    /// that did it would wait for the lock of this thread's part of the heap, and make this one wait.
    private var profiles: [ReceivedProfile] = []

    init(
        _ head: RequestHead, _ content: borrowing ProfileContent, _ form: AnswerForm, _ intake: ProfileIntake, bodyLimit: Int,
        timeLimit: Duration? = nil
    ) {
        (self.intake, self.form, self.bodyLimit, self.timeLimit) = (intake, form, bodyLimit, timeLimit)
        tenant = content.tenant
        senders = intake.senders(tenant, head)
        charge = intake.charge(tenant)
        repeats = intake.repeats(content, head)
    }

    /// Makes profiles of the body and submits them.
    func accept(_ body: consuming ByteBuffer, _ reply: Reply) { preconditionFailure("a subclass accepts the body") }

    final func keepUntilAnswered(_ profiles: [ReceivedProfile]) { self.profiles = profiles }

    /// Gives the request up.
    ///
    /// - Returns: whether nothing has come of it yet, and nothing will.
    func cancel() -> Bool {
        repeats?.stopWaiting()
        return false
    }

    func tooLarge(_ size: Int?) -> Response {
        form.failure(413, "the request body is larger than max_body_size, \(bodyLimit) bytes")
    }

    final func received(_ piece: Span<UInt8>) -> Response? {
        if let charge, let refusal = ProfileIntake.refusal(tenant, charge.arrived(piece.count)) { return form.failure(refusal) }
        repeats?.arrived(piece)
        return nil
    }

    final func answer(_ body: consuming ByteBuffer, _ reply: Reply) {
        guard let repeats else { return accept(body, reply) }
        switch repeats.admit(reply, success: form.success) {
        case .first(let reply): accept(body, reply)
        case .answered(let response):
            charge?.cancel()
            reply.send(response)
        case .waiting: charge?.cancel()
        }
    }

    /// The message of a 504, after which the sender need not send again.
    private static let timedOut = "no outcome yet from every required receiver; the profile stays queued and is delivered later"
    private static let tookLong = "the message is large, and its turn did not come in time"

    final func giveUp(_ reason: GiveUpReason) -> Response? {
        let isCancelled = cancel()
        switch reason {
        case .timeout: return isCancelled ? form.failure(503, Self.tookLong) : form.failure(504, Self.timedOut)
        case .listenerEnds(let why): return isCancelled ? form.failure(503, why) : nil
        case .disconnected: return nil
        }
    }
}
