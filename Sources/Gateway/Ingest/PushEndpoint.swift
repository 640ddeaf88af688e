import LinuxSystem
import PluginABI

/// `POST /push.v1.PusherService/Push`: a Connect unary call; each series of the request is one profile.
struct PushEndpoint: Sendable {
    static let path = "/push.v1.PusherService/Push"

    let limits: Limits
    let intake: ProfileIntake

    /// How the message and its answer are written.
    private enum Codec: String {
        case proto = "application/proto"
        case json = "application/json"
    }

    /// What a request's head says about its message.
    private struct Call: Sendable {
        let codec: Codec
        let isCompressed: Bool
        let takesGzip: Bool
        let content: ProfileContent
    }

    func admit(_ head: RequestHead) -> Admission {
        guard head.equals(head.method, "POST") else {
            return .refuse(Response(status: 405, headers: [("Allow", "POST")]))
        }
        guard let codec = Self.codec(head) else {
            let served = "application/json, application/json; charset=utf-8, application/proto"
            return .refuse(Response(status: 415, headers: [("Accept-Post", served)]))
        }
        do throws(Refusal) {
            let call = try call(head, codec)
            let timeLimit = try Self.timeLimit(head)
            return .receive(
                Reception(
                    limit: limits.maxBodySize,
                    timeLimit: timeLimit,
                    tooLarge: { tooLarge($0, limits.maxBodySize) },
                    timedOut: { .connect(.deadlineExceeded, ProfileIntake.timedOut) },
                    answer: { body, reply in answer(call, body, reply) }))
        } catch { return .refuse(error.response) }
    }

    private struct Refusal: Error {
        let response: Response
        init(_ code: ConnectCode, _ message: String, headers: [(name: String, value: String)] = []) {
            response = .connect(code, message, headers: headers)
        }
    }

    // MARK: Head

    private static func codec(_ head: RequestHead) -> Codec? {
        let type = head.value(of: "content-type").map { String(decoding: $0, as: UTF8.self).lowercased().filter { $0 != " " } }
        switch type {
        case "application/proto": return .proto
        case "application/json", "application/json;charset=utf-8": return .json
        default: return nil
        }
    }

    private func call(_ head: RequestHead, _ codec: Codec) throws(Refusal) -> Call {
        let version = head.value(of: "connect-protocol-version").map { String(decoding: $0, as: UTF8.self) }
        guard version == nil || version == "1" else {
            throw Refusal(.invalidArgument, "Connect-Protocol-Version must be \"1\": got \(quotedForPeople(version ?? ""))")
        }
        let encoding = head.value(of: "content-encoding").map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard ["", "identity", "gzip"].contains(encoding) else {
            throw Refusal(
                .unimplemented, "unknown compression \(quotedForPeople(encoding)): supported encodings are gzip",
                headers: [("Accept-Encoding", "gzip")])
        }
        let accepted = head.values(of: "accept-encoding").flatMap { $0.split(separator: UInt8(ascii: ",")) }
        let takesGzip = accepted.contains { String(decoding: $0, as: UTF8.self).filter { $0 != " " } == "gzip" }
        do throws(InvalidRequest) {
            let content = try ProfileContent(api: .push, head, keeping: intake.keepHeaders)
            return Call(codec: codec, isCompressed: encoding == "gzip", takesGzip: takesGzip || encoding == "gzip", content: content)
        } catch { throw Refusal(.invalidArgument, error.message) }
    }

    /// `Connect-Timeout-Ms`: at most ten digits.
    private static func timeLimit(_ head: RequestHead) throws(Refusal) -> Duration? {
        guard let value = head.value(of: "connect-timeout-ms") else { return nil }
        guard value.count <= 10, let milliseconds = RequestParser.number(value) else {
            let text = quotedForPeople(String(decoding: value, as: UTF8.self))
            throw Refusal(.invalidArgument, "Connect-Timeout-Ms must be at most ten digits: got \(text)")
        }
        return .milliseconds(milliseconds)
    }

    // MARK: Message

    private func tooLarge(_ size: Int?, _ limit: Int) -> Response {
        let what = size.map { "message size \($0) is" } ?? "message is"
        return .connect(.resourceExhausted, "\(what) larger than configured max \(limit)")
    }

    private func answer(_ call: Call, _ body: consuming ByteBuffer, _ reply: Reply) -> Response? {
        var message = body
        // An empty body is an empty message, compressed or not.
        if call.isCompressed, message.count > 0 {
            do throws(Gzip.Failure) {
                message = try Gzip.inflate(message, limit: limits.maxDecompressedSize)
            } catch {
                switch error {
                case .tooLarge: return tooLarge(nil, limits.maxDecompressedSize)
                case .malformed: return .connect(.invalidArgument, "the message is no gzip")
                case .noRoom: return .connect(.unavailable, "no memory for the message")
                }
            }
        }
        do throws(PushRequest.Malformed) {
            let profiles = try profiles(call, message)
            return submit(profiles, success(call), reply)
        } catch { return .connect(.invalidArgument, "unmarshal message: \(error.reason)") }
    }

    private func submit(_ profiles: [Profile], _ success: Response, _ reply: Reply) -> Response? {
        intake.submit(profiles, reply, success: success) { code, message in
            .connect(ConnectCode(destinationStatus: code), message)
        }
    }

    /// PushResponse has no fields: no bytes in proto, `{}` in JSON.
    private func success(_ call: Call) -> Response {
        var response = Response(status: 200, headers: [("Content-Type", call.codec.rawValue)])
        guard call.codec == .json else { return response }
        response.body = Array("{}".utf8)
        if call.takesGzip, let compressed = Gzip.deflate(response.body) {
            response.body = compressed
            response.headers.append(("Content-Encoding", "gzip"))
        }
        return response
    }

    private func profiles(_ call: Call, _ message: consuming ByteBuffer) throws(PushRequest.Malformed) -> [Profile] {
        switch call.codec {
        case .proto:
            let request = try message.withBytes { (bytes) throws(PushRequest.Malformed) in try PushProtobuf.parse(bytes) }
            return try profiles(call.content, request, message)
        case .json:
            guard message.count > 0 else { return [] }
            var decoded = ByteBuffer()
            let request = try message.withBytes { (bytes) throws(PushRequest.Malformed) in
                try PushJSON.parse(bytes, samples: &decoded)
            }
            return try profiles(call.content, request, decoded)
        }
    }

    /// One profile a series. A single one keeps the message as its storage; of several, each gets a copy of its samples.
    private func profiles(
        _ content: ProfileContent, _ request: PushRequest, _ bytes: consuming ByteBuffer
    ) throws(PushRequest.Malformed) -> [Profile] {
        var content = content
        if request.series.count == 1 {
            content.labels = request.series[0].labels
            content.samples = request.series[0].samples
            return [Profile(content, body: bytes)]
        }
        let head = Profile(content, body: ByteBuffer())
        var profiles: [Profile] = []
        for series in request.series {
            var body = ByteBuffer()
            content.labels = series.labels
            content.samples = []
            for sample in series.samples {
                let start = body.count
                do throws(SystemError) {
                    try bytes.withBytes { (all) throws(SystemError) in try unsafe body.append(all.extracting(sample.range).bytes) }
                } catch { throw PushRequest.Malformed("no memory for a sample") }
                content.samples.append(ProfileContent.Sample(id: sample.id, range: start..<body.count))
            }
            profiles.append(Profile(content, body: body, sharing: head))
        }
        return profiles
    }
}
