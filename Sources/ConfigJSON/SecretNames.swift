import LinuxSystem

/// Recognizes config members that hold secrets, whose values no message shows.
public enum SecretNames {
    private static let words = ["authorization", "cookie", "credential", "key", "pass", "private", "secret", "token"]
    /// Blocks in which any member may be a secret. Only the last two steps of a path are compared, because names further up are
    /// chosen by the user.
    private static let blocks: Set<String> = [
        "authorization", "basic_auth", "headers", "http_headers", "proxy_connect_header", "proxy_url",
    ]

    /// - Parameter path: the path of a member, as in ``Problem``.
    public static func isSecret(_ path: String) -> Bool {
        let steps = path.lowercased().split { !($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }
        guard let name = steps.last else { return false }
        return words.contains { name.contains($0) } || steps.suffix(2).contains { blocks.contains(String($0)) }
    }
}
