/// Which request headers carry what lets others in.
enum SecretHeader {
    /// What their names have in common: `Proxy-Authorization`, `Set-Cookie`, `X-API-Key`, `X-Auth-Token`, `X-Amz-Security-Token`.
    private static let words = [
        "auth", "cookie", "token", "secret", "password", "passwd", "apikey", "api-key", "api_key", "access-key", "credential", "session",
        "jwt", "signature",
    ]

    /// Whether a header's name is that of one, in upper or lower case.
    static func matches(_ name: String) -> Bool {
        let name = name.lowercased()
        // The host in a URL, as HTTP/2 has it, and who wrote something.
        guard name != "authority", name != "author" else { return false }
        return words.contains { name.contains($0) }
    }
}
