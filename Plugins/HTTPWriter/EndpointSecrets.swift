import ConfigJSON
import LinuxSystem
import PushWire

/// The secrets sent to an endpoint, which its responses may repeat; on the thread of the transfers only.
final class EndpointSecrets {
    /// How many secrets from files or a token server are remembered: responses to requests sent before a change may still arrive.
    private static let mostChanging = 16
    /// Headers that do not hold secrets.
    private static let plainHeaders: Set<String> = [
        "accept", "accept-encoding", "accept-language", "content-encoding", "content-type", "from", "host", "origin", "referer",
        "user-agent", "x-scope-orgid",
    ]

    private let configured: [String]
    private var changing: [String] = []
    private var authorization = ""
    private var made: KnownSecrets?

    init(_ config: EndpointConfig) {
        var secrets: [String] = []
        for header in config.headers + config.connection.proxyHeaders where !Self.plainHeaders.contains(header.name.lowercased()) {
            secrets += Self.parts(of: header.value)
            if header.name.lowercased() == "cookie" { secrets += header.value.split { "=; ".contains($0) }.map(String.init) }
        }
        if case .url(let url) = config.connection.proxy { secrets += UpstreamURL.password(in: url) }
        configured = secrets
    }

    /// Remembers the value of an Authorization header.
    func add(authorization: String) {
        // Usually it is the same as in the previous request.
        guard authorization != self.authorization else { return }
        self.authorization = authorization
        for part in Self.parts(of: authorization) { add(part) }
    }

    /// Remembers a secret, and forgets the least recently used one beyond the bound.
    func add(_ secret: String) {
        if let index = changing.firstIndex(of: secret) { return changing.append(changing.remove(at: index)) }
        changing.append(secret)
        if changing.count > Self.mostChanging { changing.removeFirst() }
        made = nil
    }

    var known: KnownSecrets {
        if let made { return made }
        let known = KnownSecrets(configured + changing)
        made = known
        return known
    }

    /// Whether a header's name suggests that its value is a secret.
    static func saysSecret(_ name: String) -> Bool {
        ["auth", "cookie", "key", "pass", "secret", "token"].contains { name.lowercased().contains($0) }
    }

    /// The whole value and the part after the scheme: an endpoint may repeat either.
    private static func parts(of value: String) -> [String] {
        [value] + value.split(separator: " ", maxSplits: 1).dropFirst().map(String.init)
    }
}
