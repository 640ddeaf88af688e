import ConfigJSON

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
    /// How much was read beyond ``AnswerBounds``; nil when nothing was.
    var excess: String?
    /// The Content-Type as it came.
    var contentType = ""
    /// Whether it came from where the endpoint redirected to.
    var isRedirected = false
    /// What Retry-After asks for.
    var retryAfter: Duration
    /// True when the request was a Connect call, whose errors carry a code.
    var isConnect = false
    var retriesOn429 = true
    var retriesOn422 = false
    /// Further statuses that are retried.
    var retriesOn: Set<Int> = []

    /// - Parameter secrets: what must not reach a sender.
    func verdict(_ secrets: @autoclosure () -> KnownSecrets) -> Verdict {
        switch status {
        case 200...299: objection.map { .misanswered("HTTP \(status)\(way): \($0)", httpStatus: status) } ?? .delivered
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
        case 400, 413, 422: .rejected(reason, httpStatus: status, senderMessage: senderMessage(secrets()))
        default: .rejected(reason, httpStatus: status)
        }
    }

    /// Why a success is none of Pyroscope's; nil when it may be.
    ///
    /// A page for people comes from a proxy or a login. To a Connect call the answer is the call's own codec, or nothing.
    private var objection: String? {
        if let excess { return "the answer has \(excess)" }
        if isHTML { return "the answer is \(shownType), a page and not Pyroscope's" }
        if isConnect, !body.isEmpty, mediaType != "application/proto" {
            return "the answer to a Push is \(shownType), not application/proto"
        }
        return nil
    }

    private var way: String { isRedirected ? " behind a redirect" : "" }

    private var mediaType: String {
        let type = contentType.prefix { $0 != ";" }.lowercased()
        return String(type.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }

    private var shownType: String { contentType.isEmpty ? "without a content type" : JSONValue.quoted(String(contentType.prefix(100))) }

    private var isHTML: Bool {
        if !contentType.isEmpty { return mediaType == "text/html" || mediaType == "application/xhtml+xml" }
        return Self.beginsAsPage(text)
    }

    private static func beginsAsPage(_ text: String) -> Bool {
        let start = text.prefix(64).drop(while: \.isWhitespace).lowercased()
        return start.hasPrefix("<!doctype html") || start.hasPrefix("<html")
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
        guard !isHTML, let message = member("message"), !message.lowercased().contains("<html"), !Self.beginsAsPage(message) else {
            return ""
        }
        return secrets.cut(from: message.printable).prefix(utf8: Self.messageLimit)
    }

    private var saysTooLarge: Bool { text.contains("is larger than configured max") }

    private var text: String { String(decoding: body, as: UTF8.self) }

    /// The upstream's own words, printable.
    private var reason: String {
        let quoted = JSONValue.quoted(String(decoding: body.prefix(Self.reasonLimit), as: UTF8.self))
        let printable = quoted.dropFirst().dropLast().replacing("\\\"", with: "\"").replacing("\\n", with: " ")
        return text.isEmpty ? "HTTP \(status)" : "HTTP \(status): \(printable)"
    }
}
