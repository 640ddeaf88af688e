import HTTPServer
import LinuxSystem
import PluginABI
import Profiles

/// `POST /push.v1.PusherService/Push`: a unary call of Connect or gRPC-Web; each series of the request is one profile.
package struct PushEndpoint: Sendable {
    package static let path = "/push.v1.PusherService/Push"

    private let limits: Limits
    private let intake: ProfileIntake
    private let largePushes: LargePushes

    package init(limits: Limits, intake: ProfileIntake, largePushes: LargePushes) {
        (self.limits, self.intake, self.largePushes) = (limits, intake, largePushes)
    }

    func admit(_ head: RequestHead) -> Admission {
        guard head.equals(head.method, "POST") else {
            return .refuse(Response(status: 405, headers: [("Allow", "POST")]))
        }
        guard let form = PushForm(head) else {
            return .refuse(Response(status: 415, headers: [("Accept-Post", PushForm.served)]))
        }
        do throws(PushFailure) {
            return .receive(PushRequest(head, try PushCall(head, form, intake), intake, limits, largePushes))
        } catch { return .refuse(form.failure(error)) }
    }
}

/// One Push.
private final class PushRequest: ProfileRequest {
    private let call: PushCall
    private let limits: Limits
    private let largePushes: LargePushes
    /// Its turn to be decoded; nil unless it takes long.
    private var ticket: LargePushes.Ticket?

    init(_ head: RequestHead, _ call: PushCall, _ intake: ProfileIntake, _ limits: Limits, _ largePushes: LargePushes) {
        (self.call, self.limits, self.largePushes) = (call, limits, largePushes)
        super.init(
            head, call.content, .push(call.form, gzip: call.takesGzip), intake, bodyLimit: limits.maxBodySize, timeLimit: call.timeLimit)
    }

    override func tooLarge(_ size: Int?) -> Response { call.form.failure(.tooLarge(size, limit: limits.maxBodySize)) }

    /// The message to senders of the same request, when the first one was given up before its turn to be decoded.
    private static let givenUp = "the same request came before, and was given up before its turn came"

    override func cancel() -> Bool {
        if repeats?.stopWaiting() == true { return false }
        guard let ticket, ticket.cancel() else { return false }
        charge?.cancel()
        repeats?.giveUp(call.form.failure(PushFailure(.unavailable, Self.givenUp)))
        return true
    }

    override func accept(_ body: consuming ByteBuffer, _ reply: Reply) {
        let size = body.count
        do throws(PushFailure) {
            let decoder = PushDecoder(
                call: call, limit: min(PushDecoder.smallSize, limits.maxDecompressedSize), excess: PushDecoder.smallExcess)
            if decoder.takesLongToUnwrap(body) { return decodeLater(body, reply) }
            let message: ByteBuffer?
            do throws(PushFailure) { message = try decoder.unwrap(body) } catch {
                guard error.code == .resourceExhausted else { throw error }
                return decodeLater(body, reply)
            }
            if decoder.takesLong(body, message) { return decodeLater(body, reply) }
            let profiles = if let message { try decoder.profiles(message) } else { try decoder.profiles(body) }
            keepUntilAnswered(profiles)
            submission.submit(profiles, size, reply)
        } catch { reply.send(call.form.failure(error)) }
    }

    private var submission: Submission { Submission(call: call, form: form, intake: intake, charge: charge) }

    /// Decodes the body on a thread of its own, because it would delay this loop's other senders.
    private func decodeLater(_ body: consuming ByteBuffer, _ reply: Reply) {
        let (size, submission, limit) = (body.count, submission, limits.maxDecompressedSize)
        let ticket = LargePushes.Ticket()
        self.ticket = ticket
        do throws(SystemError) {
            try largePushes.submit(body, ticket, lanes: call.lanes, reply) { body, grow in
                do throws(PushFailure) {
                    let profiles = try PushDecoder(call: submission.call, limit: limit, grow: grow).decode(body)
                    return { if ticket.submit() { submission.submit(profiles, size, reply) } }
                } catch {
                    let response = submission.call.form.failure(error)
                    return { reply.send(response) }
                }
            }
        } catch {
            charge?.cancel()
            reply.send(call.form.failure(PushFailure(.unavailable, "\(error)")))
        }
    }
}

/// The way of a Push's profiles into the receivers' queues, once they are decoded.
private struct Submission: Sendable {
    let call: PushCall
    let form: AnswerForm
    let intake: ProfileIntake
    let charge: RateCharge?

    /// - Parameter size: the bytes of the body as received.
    func submit(_ profiles: [ReceivedProfile], _ size: Int, _ reply: Reply) {
        // A compressed message is charged for the inflated bytes that are kept, and at least for its received size.
        let cost = call.isCompressed ? max(size, profiles.reduce(0) { $0 + $1.byteCount }) : size
        let wait = charge?.charge(profiles: profiles.count, bytes: cost)
        if let refusal = ProfileIntake.refusal(call.content.tenant, wait ?? nil) { return reply.send(form.failure(refusal)) }
        intake.submit(profiles, form, reply)
    }
}
