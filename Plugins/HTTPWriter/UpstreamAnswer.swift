import ConfigJSON
import PushWire

/// What came of one attempt at one endpoint.
enum Verdict: Sendable {
    case delivered
    /// Transient; not again before `after`.
    case retry(String, after: Duration, httpStatus: Int)
    /// A success that no Pyroscope would answer so: transient, for a person may put the right server in its place.
    case misanswered(String, httpStatus: Int)
    /// Permanent for this profile; the message is the destination's own word to the sender.
    case rejected(String, httpStatus: Int, senderMessage: String = "")
    case aborted
}

/// A destination's answer, read by its HTTP status first.
struct UpstreamAnswer {
    /// How much of an answer's body is kept for people.
    static let reasonLimit = 512
    /// How much is kept at all: enough for the members of a Connect error with a long message.
    static let bodyLimit = 16 << 10
    /// How much of the destination's own message a sender is told, in bytes.
    static let messageLimit = 256

    var status: Int
    var body: [UInt8]
    /// Whether more of the body has come than is here.
    var isCutShort = false
    /// How much was read beyond ``AnswerBounds``; nil when nothing was.
    var excess: String?
    /// The Content-Type as it came.
    var contentType = ""
    /// Whether it came from where the endpoint redirected to.
    var isRedirected = false
    /// The host that a redirect leads to where it is not followed; nil when there is none.
    var otherHost: String?
    /// What Retry-After asks for.
    var retryAfter: Duration
    /// True when the request was a Connect call, whose errors carry a code.
    var isConnect = false
    var retriesOn429 = true
    var retriesOn422 = false
    /// Further statuses that are retried.
    var retriesOn: Set<Int> = []

    /// - Parameter secrets: what nobody may read, in the log, the status, a dead letter or as the sender.
    func verdict(_ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        switch status {
        case 200...299: objection(KnownSecrets([])) == nil ? .delivered : oddity(objection(secrets()) ?? "")
        case 300...399: otherHost.map { strayed(to: secrets().cut(from: $0)) } ?? failure(secrets())
        default: failure(secrets())
        }
    }

    private func oddity(_ words: String) -> Verdict {
        .misanswered("HTTP \(status)\(isRedirected ? " behind a redirect" : ""): \(words)", httpStatus: status)
    }

    private func strayed(to host: String) -> Verdict {
        oddity("redirects to another host, \(JSONValue.quoted(host.prefix(utf8: 100))), and is not followed there")
    }

    private func failure(_ secrets: KnownSecrets) -> Verdict {
        let reason = reason(secrets)
        return switch status {
        // Connect has one code for "too fast" and "too big", and says the second only in words.
        case 429 where saysTooLarge || !retriesOn429: .rejected(reason, httpStatus: status)
        case 429, 503: .retry(reason, after: retryAfter, httpStatus: status)
        case 422 where retriesOn422: .retry(reason, after: retryAfter, httpStatus: status)
        case _ where retriesOn.contains(status): .retry(reason, after: retryAfter, httpStatus: status)
        // The code refines what the status says: nothing was wrong with the profile, or nothing will ever be right with it.
        case 400..<500 where isConnect && (member("code") == "aborted" || member("code") == "canceled"):
            .retry(reason, after: .zero, httpStatus: status)
        case 501 where isConnect && member("code") == "unimplemented": .rejected(reason, httpStatus: status)
        // 407 is a proxy's: it says nothing about the profile.
        case 407, 408, 500...599: .retry(reason, after: .zero, httpStatus: status)
        case 400, 413, 422: .rejected(reason, httpStatus: status, senderMessage: senderMessage(secrets))
        default: .rejected(reason, httpStatus: status)
        }
    }

    /// Why a success is none of Pyroscope's; nil when it may be.
    private func objection(_ secrets: KnownSecrets) -> String? {
        if let excess { return "the answer has \(excess)" }
        return AnswerMedia(contentType: secrets.cut(from: contentType), body: body).objection(isPush: isConnect)
    }

    /// A text member of a body in JSON, such as a Connect error's.
    private func member(_ name: String) -> String? {
        guard case .object(let members) = JSONParser.parse(body, dialect: .strict, problems: Problems())?.content,
            case .string(let text) = members.first(where: { $0.name == name })?.value.content
        else { return nil }
        return text
    }

    /// The destination's own words to the sender, who would have read them without us; none where they are a page.
    private func senderMessage(_ secrets: KnownSecrets) -> String {
        guard !AnswerMedia(contentType: contentType, body: body).isPage, let message = member("message"),
            !message.lowercased().contains("<html"), !AnswerMedia.beginsAsPage(message)
        else { return "" }
        return secrets.cut(from: message.printable).prefix(utf8: Self.messageLimit)
    }

    private var saysTooLarge: Bool { text.contains("is larger than configured max") }

    private var text: String { String(decoding: body, as: UTF8.self) }

    /// The upstream's own words, printable and without secrets.
    private func reason(_ secrets: KnownSecrets) -> String {
        // Secrets first: what is cut to a length or escaped before may hold a part of one.
        let words = secrets.cut(from: body, most: Self.reasonLimit, isCutShort: isCutShort).prefix(Self.reasonLimit)
        let quoted = JSONValue.quoted(String(decoding: words, as: UTF8.self))
        let printable = quoted.dropFirst().dropLast().replacing("\\\"", with: "\"").replacing("\\n", with: " ")
        return words.isEmpty ? "HTTP \(status)" : "HTTP \(status): \(printable)"
    }
}
