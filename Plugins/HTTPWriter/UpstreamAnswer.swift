import ConfigJSON
import LinuxSystem
import PushWire

/// The result of one attempt at one endpoint.
enum Verdict: Sendable {
    case delivered
    /// Transient; not to be repeated before `after` has passed.
    case retry(String, after: Duration, httpStatus: Int)
    /// A 2xx or a redirect that no Pyroscope server would answer: transient, because a person may correct the URL.
    case misanswered(String, httpStatus: Int)
    /// Permanent for this profile; `senderMessage` is the endpoint's message for the sender.
    case rejected(String, httpStatus: Int, senderMessage: String = "")
    case aborted
}

/// An endpoint's response; the verdict depends first on its HTTP status.
struct UpstreamAnswer: ~Copyable {
    /// How many bytes of a response body are shown to people.
    static let reasonLimit = 512
    /// How many bytes of a body are kept: enough for the members of a Connect error with a long message.
    static let bodyLimit = 16 << 10
    /// How many bytes of the endpoint's message a sender gets.
    static let messageLimit = 256

    var status: Int
    var body: [UInt8]
    /// Whether the body was longer than the part that was kept.
    var isCutShort = false
    /// Which bound of ``AnswerBounds`` the response exceeded, in words; nil when none.
    var excess: String?
    /// The Content-Type as received.
    var contentType = ""
    /// Whether the response comes from a redirect's target.
    var isRedirected = false
    /// The host of a redirect that is not followed because it is another host; nil when there is none.
    var otherHost: String?
    /// The value of Retry-After.
    var retryAfter: Duration
    /// True when the request was a Connect call, whose errors have a code.
    var isConnect = false
    var retriesOn429 = true
    var retriesOn422 = false
    /// Further statuses that are retried.
    var retriesOn: Set<Int> = []

    /// - Parameter secrets: secrets to remove, because the texts appear in the log, the status, dead letters and responses to
    ///   senders.
    func verdict(_ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        switch status {
        // Almost every answer: nothing of it is shown, so no secret has to be removed.
        case 200...299: objection(contentType) == nil ? .delivered : oddity(objection(secrets().cut(from: contentType)) ?? "")
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
        // Connect uses one code for "too fast" and "too large"; only the message tells them apart.
        case 429 where saysTooLarge || !retriesOn429: .rejected(reason, httpStatus: status)
        case 429, 503: .retry(reason, after: retryAfter, httpStatus: status)
        case 422 where retriesOn422: .retry(reason, after: retryAfter, httpStatus: status)
        case _ where retriesOn.contains(status): .retry(reason, after: retryAfter, httpStatus: status)
        // The code is more precise than the status: either the profile was not the reason, or it will never be accepted.
        case 400..<500 where isConnect && (member("code") == "aborted" || member("code") == "canceled"):
            .retry(reason, after: .zero, httpStatus: status)
        case 501 where isConnect && member("code") == "unimplemented": .rejected(reason, httpStatus: status)
        // A proxy sends 407, so it says nothing about the profile.
        case 407, 408, 500...599: .retry(reason, after: .zero, httpStatus: status)
        case 400, 413, 422: .rejected(reason, httpStatus: status, senderMessage: senderMessage(secrets))
        default: .rejected(reason, httpStatus: status)
        }
    }

    /// Why a 2xx response does not come from a Pyroscope server; nil when it may.
    private func objection(_ contentType: String) -> String? {
        if let excess { return "the answer has \(excess)" }
        return AnswerMedia(contentType: contentType, body: body).objection(isPush: isConnect)
    }

    /// A text member of a JSON body, such as a Connect error's.
    private func member(_ name: String) -> String? {
        guard case .object(let members) = JSONParser.parse(body, dialect: .strict, problems: Problems())?.content,
            case .string(let text) = members.first(where: { $0.name == name })?.value.content
        else { return nil }
        return text
    }

    /// The endpoint's message for the sender, which a sender without a gateway would have read; empty when the body is a web page.
    private func senderMessage(_ secrets: KnownSecrets) -> String {
        guard !AnswerMedia(contentType: contentType, body: body).isPage, let message = member("message"),
            !message.lowercased().contains("<html"), !AnswerMedia.beginsAsPage(message)
        else { return "" }
        return secrets.cut(from: message.printable).prefix(utf8: Self.messageLimit)
    }

    private var saysTooLarge: Bool { text.contains("is larger than configured max") }

    private var text: String { String(decoding: body, as: UTF8.self) }

    /// The endpoint's own message, printable and without secrets.
    private func reason(_ secrets: KnownSecrets) -> String {
        // Secrets are removed first: a text that was cut or escaped before could still hold a part of one.
        let words = secrets.cut(from: body, most: Self.reasonLimit, isCutShort: isCutShort).prefix(Self.reasonLimit)
        let quoted = JSONValue.quoted(String(decoding: words, as: UTF8.self))
        let printable = quoted.dropFirst().dropLast().replacing("\\\"", with: "\"").replacing("\\n", with: " ")
        return words.isEmpty ? "HTTP \(status)" : "HTTP \(status): \(printable)"
    }
}
