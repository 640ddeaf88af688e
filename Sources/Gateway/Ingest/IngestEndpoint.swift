import LinuxSystem
import PluginABI

/// `POST /ingest`: one request is one profile, and its body is the payload.
struct IngestEndpoint: Sendable {
    let limits: Limits
    let intake: ProfileIntake

    func admit(_ head: RequestHead) -> Admission {
        do throws(InvalidRequest) {
            let content = try content(of: head)
            let repeats = intake.repeats(content, head)
            let charge = intake.charge(content)
            return .receive(
                Reception(
                    limit: limits.maxBodySize,
                    tooLarge: { _ in .error(413, "the request body is larger than max_body_size, \(limits.maxBodySize) bytes") },
                    failure: { status, message in .error(status, message) },
                    senders: intake.senders(content, head),
                    charge: charge.map { charge in
                        { ProfileIntake.refusal(content.tenant, charge.arrived($0)).map(Self.failure) }
                    },
                    arrived: repeats?.arrived,
                    cancel: {
                        repeats?.leave()
                        return false
                    },
                    answer: { body, reply in answer(content, body, charge, repeats, reply) }))
        } catch { return .refuse(Self.failure(error)) }
    }

    private func answer(
        _ content: ProfileContent, _ body: consuming ByteBuffer, _ charge: RateCharge?, _ repeats: RepeatedRequest?, _ reply: Reply
    ) -> Response? {
        guard let repeats else { return accept(content, body, charge, reply) }
        let admission = repeats.admit(reply, success: .ok)
        if case .first(let reply) = admission { return reply.passing(accept(content, body, charge, reply)) }
        charge?.cancel()
        if case .answered(let response) = admission { return response }
        return nil
    }

    private func accept(
        _ content: ProfileContent, _ body: consuming ByteBuffer, _ charge: RateCharge?, _ reply: Reply
    ) -> Response? {
        let wait = charge?.settle(profiles: 1, bytes: body.count)
        if let refusal = ProfileIntake.refusal(content.tenant, wait ?? nil) { return Self.failure(refusal) }
        var content = content
        content.samples = [ProfileContent.Sample(range: 0..<body.count)]
        return intake.submit([Profile(content, body: body)], reply, success: .ok) { status, message in .error(status, message) }
    }

    private static func failure(_ invalid: InvalidRequest) -> Response {
        var response = Response.error(invalid.status, invalid.message)
        response.headers += invalid.headers
        return response
    }

    /// Everything about the profile except its bytes.
    private func content(of head: RequestHead) throws(InvalidRequest) -> ProfileContent {
        let query = QueryString(head[head.query])
        var content = try intake.content(.ingest, head)
        content.labels = try labels(query)
        content.from = query.text("from").map { SenderTime.parse($0, now: content.receivedAt) } ?? 0
        content.until = query.text("until").map { SenderTime.parse($0, now: content.receivedAt) } ?? 0
        content.format = ProfileFormat(format: query.text("format"), contentType: content.contentType)
        return content
    }

    private func labels(_ query: QueryString) throws(InvalidRequest) -> LabelSet {
        let bytes: ArraySlice<UInt8>?
        do throws(QueryString.Malformed) {
            bytes = try query.value("name")
        } catch { throw InvalidRequest("name: \(quotedForPeople(error.text)) is no percent-encoding") }
        guard let bytes else { throw InvalidRequest("name: is required") }
        let text = try validText(bytes, of: "name")
        do throws(LabelSet.ParseError) {
            var labels = try LabelSet(parsing: text)
            labels.addServiceName()
            return labels
        } catch { throw InvalidRequest("name: \(error)") }
    }
}
