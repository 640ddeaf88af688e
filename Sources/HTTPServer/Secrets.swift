import COpenSSL

/// Compares secrets without revealing by time how much of a guess was right, and makes digests to remember them by.
enum Secrets {
    /// A random key that is unknown outside this process.
    static func randomKey() -> [UInt8] {
        var system = SystemRandomNumberGenerator()
        return (0..<32).map { _ in .random(in: .min ... .max, using: &system) }
    }

    /// HMAC-SHA-256 (RFC 2104): represents a secret where it is remembered, and reveals nothing about it without the key.
    static func digest(_ secret: some Sequence<UInt8>, key: [UInt8]) -> [UInt8] {
        let secret = Array(secret)
        var digest = [UInt8](repeating: 0, count: 32)
        _ = unsafe HMAC(EVP_sha256(), key, Int32(key.count), secret, secret.count, &digest, nil)
        return digest
    }

    /// Whether two texts are equal; takes as long for any two texts of one length.
    static func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        unsafe a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
    }
}
