import ConfigJSON

/// The tokens of a `bearer_tokens_file`, one a line; empty lines and lines that begin with `#` are ignored.
struct TokenList: Sendable {
    private let key = Secrets.randomKey()
    private var digests: [[UInt8]] = []

    init(_ source: ConfigSource) throws(Problem) {
        for (number, line) in try source.lines() {
            guard Self.isToken(line) else {
                throw source.problem("line \(number): is no bearer token: A-Z a-z 0-9 - . _ ~ + / are taken, and = at the end")
            }
            digests.append(Secrets.digest(line.utf8, key: key))
        }
        guard !digests.isEmpty else { throw source.problem("holds no token") }
    }

    /// RFC 6750 §2.1.
    private static func isToken(_ text: String) -> Bool {
        let body = text.utf8.prefix { $0 != UInt8(ascii: "=") }
        return !body.isEmpty && text.utf8[body.endIndex...].allSatisfy { $0 == UInt8(ascii: "=") }
            && body.allSatisfy { (48...57 ~= $0) || (65...90 ~= $0 & 0xDF) || "-._~+/".utf8.contains($0) }
    }

    /// Compares with every token, so that the time does not depend on which one matches.
    func contains(_ token: [UInt8]) -> Bool {
        let digest = Secrets.digest(token, key: key)
        return digests.reduce(false) { found, other in Secrets.areEqual(other, digest) || found }
    }
}
