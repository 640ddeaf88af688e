import ConfigJSON

/// What came of one attempt at one endpoint.
enum Verdict: Sendable {
    case delivered
    /// Transient; not again before `after`.
    case retry(String, after: Duration, httpStatus: Int)
    /// Permanent for this profile.
    case rejected(String, httpStatus: Int)
    case aborted
}

/// A destination's answer, read by its HTTP status first.
struct UpstreamAnswer {
    /// How much of an answer's body is kept for people.
    static let reasonLimit = 512
    /// How much is kept at all: enough for the code of a Connect error with a long message.
    static let bodyLimit = 4096

    var status: Int
    var body: [UInt8]
    /// What Retry-After asks for.
    var retryAfter: Duration
    /// True when the request was a Connect call, whose errors carry a code.
    var isConnect = false
    var retriesOn429 = true
    var retriesOn422 = false

    var verdict: Verdict {
        switch status {
        case 200...299: return .delivered
        // Connect has one code for "too fast" and "too big", and says the second only in words.
        case 429 where saysTooLarge: return .rejected(reason, httpStatus: status)
        case 429 where !retriesOn429: return .rejected(reason, httpStatus: status)
        case 422 where retriesOn422: return .retry(reason, after: retryAfter, httpStatus: status)
        case 429, 503: return .retry(reason, after: retryAfter, httpStatus: status)
        // The code refines what the status says: nothing was wrong with the profile, or nothing will ever be right with it.
        case 400..<500 where isConnect && (code == "aborted" || code == "canceled"):
            return .retry(reason, after: .zero, httpStatus: status)
        case 501 where isConnect && code == "unimplemented": return .rejected(reason, httpStatus: status)
        // 407 is a proxy's: it says nothing about the profile.
        case 407, 408, 500...599: return .retry(reason, after: .zero, httpStatus: status)
        default: return .rejected(reason, httpStatus: status)
        }
    }

    /// The code of a Connect error.
    private var code: String? {
        guard case .object(let members) = JSONParser.parse(body, dialect: .strict, problems: Problems())?.content,
            case .string(let code) = members.first(where: { $0.name == "code" })?.value.content
        else { return nil }
        return code
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
