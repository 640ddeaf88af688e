import LinuxSystem
import PluginABI

/// `POST /push.v1.PusherService/Push`: a unary call of Connect or gRPC-Web; each series of the request is one profile.
struct PushEndpoint: Sendable {
    static let path = "/push.v1.PusherService/Push"

    let limits: Limits
    let intake: ProfileIntake
    let largePushes: LargePushes

    func admit(_ head: RequestHead) -> Admission {
        guard head.equals(head.method, "POST") else {
            return .refuse(Response(status: 405, headers: [("Allow", "POST")]))
        }
        guard let form = PushForm(head) else {
            return .refuse(Response(status: 415, headers: [("Accept-Post", PushForm.served)]))
        }
        do throws(PushFailure) {
            let call = try PushCall(head, form, intake)
            return .receive(reception(call, intake.senders(call.content, head), intake.repeats(call.content, head)))
        } catch { return .refuse(form.failure(error)) }
    }

    private func reception(_ call: PushCall, _ senders: [BodySender], _ repeats: RepeatedRequest?) -> Reception {
        let turn = LargePushes.Turn()
        let charge = intake.charge(call.content)
        return Reception(
            limit: limits.maxBodySize,
            timeLimit: call.timeLimit,
            tooLarge: { call.form.failure(.tooLarge($0, limit: limits.maxBodySize)) },
            failure: { status, message in call.form.failure(PushFailure(ConnectCode(destinationStatus: status), message)) },
            senders: senders,
            charge: charge.map { charge in
                { bytes in
                    ProfileIntake.refusal(call.content.tenant, charge.arrived(bytes)).map { call.form.failure(PushFailure($0)) }
                }
            },
            arrived: repeats?.arrived,
            cancel: {
                if repeats?.leave() == true { return false }
                guard turn.cancel() else { return false }
                charge?.cancel()
                repeats?.giveUp(call.form.failure(PushFailure(.unavailable, Self.givenUp)))
                return true
            },
            answer: { body, reply in answer(call, body, Request(turn: turn, charge: charge), repeats, reply) })
    }

    /// The state of a Push from its body to its profiles.
    private struct Request: Sendable {
        let turn: LargePushes.Turn
        let charge: RateCharge?
    }

    /// The message to senders of the same request, when the first one was given up before its turn to be decoded.
    private static let givenUp = "the same request came before, and was given up before its turn came"

    private func answer(
        _ call: PushCall, _ body: consuming ByteBuffer, _ request: Request, _ repeats: RepeatedRequest?, _ reply: Reply
    ) -> Response? {
        guard let repeats else { return answer(call, body, request, reply) }
        let admission = repeats.admit(reply, success: call.form.success(gzip: call.takesGzip))
        if case .first(let reply) = admission { return reply.passing(answer(call, body, request, reply)) }
        request.charge?.cancel()
        if case .answered(let response) = admission { return response }
        return nil
    }

    private func answer(_ call: PushCall, _ body: consuming ByteBuffer, _ request: Request, _ reply: Reply) -> Response? {
        let size = body.count
        do throws(PushFailure) {
            let decoder = PushDecoder(call: call, limit: min(PushDecoder.smallSize, limits.maxDecompressedSize))
            if decoder.takesLongToUnwrap(body) { return decodeLater(call, body, request, reply) }
            let message: ByteBuffer?
            do throws(PushFailure) { message = try decoder.unwrap(body) } catch {
                guard error.code == .resourceExhausted, decoder.limit < limits.maxDecompressedSize else { throw error }
                return decodeLater(call, body, request, reply)
            }
            if decoder.takesLong(body, message) { return decodeLater(call, body, request, reply) }
            guard let message else { return submit(call, try decoder.profiles(body), size, request, reply) }
            return submit(call, try decoder.profiles(message), size, request, reply)
        } catch { return call.form.failure(error) }
    }

    /// Decodes the body on a thread of its own, because it would delay this loop's other senders.
    private func decodeLater(_ call: PushCall, _ body: consuming ByteBuffer, _ request: Request, _ reply: Reply) -> Response? {
        let size = body.count
        do throws(SystemError) {
            try largePushes.submit(body, request.turn, lanes: call.lanes, reply) { body, grow in
                let decoder = PushDecoder(call: call, limit: limits.maxDecompressedSize, grow: grow)
                do throws(PushFailure) {
                    let profiles = try decoder.decode(body)
                    return { reply.passing(submit(call, profiles, size, request, reply)) }
                } catch {
                    let response = call.form.failure(error)
                    return { reply.passing(response) }
                }
            }
            return nil
        } catch {
            request.charge?.cancel()
            return call.form.failure(PushFailure(.unavailable, "\(error)"))
        }
    }

    private func submit(_ call: PushCall, _ profiles: [Profile], _ size: Int, _ request: Request, _ reply: Reply) -> Response? {
        guard request.turn.submit() else { return nil }
        // A compressed message is charged for the inflated bytes that are kept, and at least for its received size.
        let cost = call.isCompressed ? max(size, profiles.reduce(0) { $0 + $1.byteCount }) : size
        let wait = request.charge?.settle(profiles: profiles.count, bytes: cost)
        if let refusal = ProfileIntake.refusal(call.content.tenant, wait ?? nil) { return call.form.failure(PushFailure(refusal)) }
        return intake.submit(profiles, reply, success: call.form.success(gzip: call.takesGzip)) { status, message in
            call.form.failure(PushFailure(ConnectCode(destinationStatus: status), message))
        }
    }
}
