import COpenSSL

/// Comparing secrets without telling by time how much of a guess was right.
enum Secrets {
    /// A key that nobody outside this process knows.
    static func randomKey() -> [UInt8] {
        var system = SystemRandomNumberGenerator()
        return (0..<32).map { _ in .random(in: .min ... .max, using: &system) }
    }

    /// HMAC-SHA-256 (RFC 2104): stands for a secret where it is remembered, and says nothing about it without the key.
    static func digest(_ secret: some Sequence<UInt8>, key: [UInt8]) -> [UInt8] {
        let secret = Array(secret)
        var digest = [UInt8](repeating: 0, count: 32)
        _ = unsafe HMAC(EVP_sha256(), key, Int32(key.count), secret, secret.count, &digest, nil)
        return digest
    }

    /// Takes as long for any two texts of one length.
    static func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        unsafe a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
    }
}
