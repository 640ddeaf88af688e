import LinuxSystem
import PluginABI

/// `POST /ingest`: one request is one profile, its body is the payload.
struct IngestEndpoint: Sendable {
    let limits: Limits
    let intake: ProfileIntake

    func admit(_ head: RequestHead) -> Admission {
        do throws(InvalidRequest) {
            let content = try content(of: head)
            let repeats = intake.repeats(content, head)
            return .receive(
                Reception(
                    limit: limits.maxBodySize,
                    tooLarge: { _ in .error(413, "the request body is larger than max_body_size, \(limits.maxBodySize) bytes") },
                    failure: { status, message in .error(status, message) },
                    arrived: repeats?.arrived,
                    cancel: {
                        repeats?.leave()
                        return false
                    },
                    answer: { body, reply in answer(content, body, repeats, reply) }))
        } catch { return .refuse(Self.failure(error)) }
    }

    private func answer(
        _ content: ProfileContent, _ body: consuming ByteBuffer, _ repeats: RepeatedRequest?, _ reply: Reply
    ) -> Response? {
        guard let repeats else { return accept(content, body, reply) }
        switch repeats.admit(reply, success: .ok) {
        case .first(let reply): return reply.passing(accept(content, body, reply))
        case .answered(let response): return response
        case .waiting: return nil
        }
    }

    private func accept(_ content: ProfileContent, _ body: consuming ByteBuffer, _ reply: Reply) -> Response? {
        if let refusal = intake.charge(content.tenant, profiles: 1, bytes: body.count) { return Self.failure(refusal) }
        var content = content
        content.samples = [ProfileContent.Sample(range: 0..<body.count)]
        return intake.submit([Profile(content, body: body)], reply, success: .ok) { status, message in .error(status, message) }
    }

    private static func failure(_ invalid: InvalidRequest) -> Response {
        var response = Response.error(invalid.status, invalid.message)
        response.headers += invalid.headers
        return response
    }

    /// Everything about the profile but its bytes.
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
        let bytes: [UInt8]?
        do throws(QueryString.Malformed) {
            bytes = try query.value("name")
        } catch { throw InvalidRequest("name: \(quotedForPeople(error.text)) is no percent-encoding") }
        guard let bytes else { throw InvalidRequest("name: is required") }
        let text = try validText(bytes[...], of: "name")
        do throws(LabelSet.ParseError) {
            var labels = try LabelSet(parsing: text)
            labels.addServiceName()
            return labels
        } catch { throw InvalidRequest("name: \(error)") }
    }
}
