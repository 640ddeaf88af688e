import HTTPServer
import LinuxSystem
import PluginABI
import Profiles
import Telemetry

/// `POST /ingest`: one request is one profile, and its body is the payload.
package struct IngestEndpoint: Sendable {
    private let limits: Limits
    private let intake: ProfileIntake
    private let names = KnownNames()

    package init(limits: Limits, intake: ProfileIntake) { (self.limits, self.intake) = (limits, intake) }

    /// - Parameter path: the path of the profile, however the sender wrote it.
    func admit(_ head: RequestHead, path: String) -> Admission {
        do throws(InvalidRequest) {
            return .receive(IngestRequest(head, try content(of: head, path: path), intake, bodyLimit: limits.maxBodySize))
        } catch { return .refuse(AnswerForm.ingest.failure(error)) }
    }

    /// Everything about the profile except its bytes.
    private func content(of head: RequestHead, path: String) throws(InvalidRequest) -> ProfileContent {
        let query = QueryString(head[head.query])
        var content = try intake.content(.ingest, head, path: path)
        guard let name = query.raw("name") else { throw InvalidRequest("name: is required") }
        content.labels = try names.labels(name) { () throws(InvalidRequest) in try Self.labels(name) }
        content.from = query.text("from").map { SenderTime.parse($0, now: content.receivedAt) } ?? 0
        content.until = query.text("until").map { SenderTime.parse($0, now: content.receivedAt) } ?? 0
        content.format = ProfileFormat(format: query.text("format"), contentType: content.contentType)
        return content
    }

    /// Reads a name, as it stands in the query.
    private static func labels(_ name: ArraySlice<UInt8>) throws(InvalidRequest) -> LabelSet {
        let bytes: ArraySlice<UInt8>
        do throws(QueryString.Malformed) {
            bytes = try QueryString.decoded(name)
        } catch { throw InvalidRequest("name: \(quotedForPeople(error.text)) is no percent-encoding") }
        let text = try validText(bytes, of: "name")
        do throws(LabelSet.ParseError) {
            var labels = try LabelSet(parsing: text)
            labels.addServiceName()
            return labels
        } catch { throw InvalidRequest("name: \(error)") }
    }
}

/// One request to `/ingest`.
private final class IngestRequest: ProfileRequest {
    private var content: ProfileContent

    init(_ head: RequestHead, _ content: consuming ProfileContent, _ intake: ProfileIntake, bodyLimit: Int) {
        // Kept first, because `super.init` would otherwise read what has been moved.
        self.content = content
        super.init(head, self.content, .ingest, intake, bodyLimit: bodyLimit)
    }

    override func accept(_ body: consuming ByteBuffer, _ reply: Reply) {
        let wait = charge?.charge(profiles: 1, bytes: body.count)
        if let refusal = ProfileIntake.refusal(tenant, wait ?? nil) { return reply.send(form.failure(refusal)) }
        content.samples = [ProfileContent.Sample(range: 0..<body.count)]
        let profiles = [ReceivedProfile(content, body: body)]
        keepUntilAnswered(profiles)
        intake.submit(profiles, form, reply)
    }
}
