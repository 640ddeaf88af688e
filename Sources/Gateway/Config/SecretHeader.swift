import LinuxSystem

/// Recognizes request headers that carry secrets.
enum SecretHeader {
    /// Parts of the names of such headers: `Proxy-Authorization`, `Set-Cookie`, `X-API-Key`, `X-Auth-Key`,
    /// `X-Amz-Security-Token`.
    private static let words = [
        "authoriz", "x-auth", "cookie", "token", "secret", "password", "passwd", "apikey", "api-key", "api_key", "access-key",
        "credential", "session", "jwt",
    ]

    /// Whether a header's name is that of a secret, in upper or lower case.
    static func matches(_ name: String) -> Bool {
        let name = name.lowercased()
        return words.contains { name.contains($0) }
    }
}
