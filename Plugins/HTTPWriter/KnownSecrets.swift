import ConfigJSON
import PushWire

/// The secrets that an endpoint was given, to be cut out of what a destination says: it may repeat what it was sent.
struct KnownSecrets: Sendable {
    /// Shorter ones would be found by chance in words that hold no secret.
    static let shortest = 6
    static let mark = "[secret]"

    /// Every form in which one may be repeated, the longest first, so that none is cut in pieces.
    private let forms: [[UInt8]]

    /// - Parameter secrets: as they are; texts shorter than ``shortest`` are no secrets.
    init(_ secrets: [String]) {
        let known = Set(secrets.filter { $0.utf8.count >= Self.shortest }.flatMap(Self.forms))
        forms = known.map { Array($0.utf8) }.sorted { $0.count > $1.count }
    }

    /// The text with a mark for each secret in it.
    func cut(from text: String) -> String {
        // By bytes: to Swift, a secret with a combining mark behind it ends with another character.
        var (rest, result) = (Array(text.utf8)[...], [UInt8]())
        while let byte = rest.first {
            if let form = forms.first(where: { rest.starts(with: $0) }) {
                result += Array(Self.mark.utf8)
                rest = rest.dropFirst(form.count)
            } else {
                result.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// A secret as it is, in base64 with and without padding and in its form for URLs (RFC 4648 §4, §5), and percent-encoded.
    private static func forms(_ secret: String) -> [String] {
        let padded = base64(Array(secret.utf8))
        let bare = String(padded.prefix { $0 != "=" })
        let encoded = percentEncoded(secret)
        let forURLs = [padded, bare].map { $0.replacing("+", with: "-").replacing("/", with: "_") }
        return [secret, padded, bare, encoded, encoded.lowercasedEscapes, encoded.replacing("%20", with: "+")] + forURLs
    }
}

extension String {
    /// A percent-encoded text with its escapes in lower case.
    fileprivate var lowercasedEscapes: String {
        split(separator: "%", omittingEmptySubsequences: false).enumerated()
            .map { index, part in index == 0 ? String(part) : part.prefix(2).lowercased() + part.dropFirst(2) }.joined(separator: "%")
    }
}

extension Endpoint {
    /// The secrets of this endpoint, read from their files now.
    var secrets: KnownSecrets {
        var secrets = config.authentication.secrets
        // Header and scheme as well as what follows it: either may be what a destination repeats.
        if let value = (try? authorization()) ?? nil { secrets += [value] + value.split(separator: " ").dropFirst().map(String.init) }
        for header in config.headers + config.connection.proxyHeaders where Self.mayBeSecret(header.name) {
            secrets += [header.value] + header.value.split(separator: " ").map(String.init)
        }
        if case .url(let url) = config.connection.proxy { secrets += UpstreamURL.password(in: url) }
        return KnownSecrets(secrets)
    }

    /// Whether the name of a header says that its value is one.
    private static func mayBeSecret(_ name: String) -> Bool {
        ["auth", "cookie", "key", "pass", "secret", "token"].contains { name.lowercased().contains($0) }
    }
}

extension Authentication {
    /// The secrets of this way to authenticate; a file that cannot be read gives none, for nothing of it was sent.
    fileprivate var secrets: [String] {
        switch self {
        case .none: []
        case .basic(_, let password): [password.flatMap { try? $0.secret() } ?? ""]
        case .header(_, let credentials): [(try? credentials.secret()) ?? ""]
        case .oauth2(let oauth2): [oauth2.clientSecret.flatMap { try? $0.secret() } ?? ""]
        }
    }
}
