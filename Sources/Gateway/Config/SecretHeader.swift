/// Which request headers carry what lets others in.
enum SecretHeader {
    /// What their names have in common: `Proxy-Authorization`, `Set-Cookie`, `X-API-Key`, `X-Auth-Key`, `X-Amz-Security-Token`.
    private static let words = [
        "authoriz", "x-auth", "cookie", "token", "secret", "password", "passwd", "apikey", "api-key", "api_key", "access-key",
        "credential", "session", "jwt",
    ]

    /// Whether a header's name is that of one, in upper or lower case.
    static func matches(_ name: String) -> Bool {
        let name = name.lowercased()
        return words.contains { name.contains($0) }
    }
}
