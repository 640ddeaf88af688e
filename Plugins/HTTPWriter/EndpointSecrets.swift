import ConfigJSON
import PushWire

/// The secrets that an endpoint has been sent, which it may repeat; on the transfer thread only.
final class EndpointSecrets {
    /// How many that came from files or a token server are remembered: answers to what was sent before a change may still come.
    private static let mostChanging = 16
    /// Headers that say what a request is, and hold nothing that opens anything.
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
        // Mostly it is that of the request before.
        guard authorization != self.authorization else { return }
        self.authorization = authorization
        for part in Self.parts(of: authorization) { add(part) }
    }

    /// Remembers a secret; the one that was used longest ago is forgotten for it.
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

    /// Whether the name of a header says that its value opens something.
    static func saysSecret(_ name: String) -> Bool {
        ["auth", "cookie", "key", "pass", "secret", "token"].contains { name.lowercased().contains($0) }
    }

    /// The whole as well as what follows a scheme: either may be what a destination repeats.
    private static func parts(of value: String) -> [String] {
        [value] + value.split(separator: " ", maxSplits: 1).dropFirst().map(String.init)
    }
}
