import COpenSSL

/// SHA-256 (FIPS 180-4) of bytes added in pieces, computed by OpenSSL; used by one thread.
public final class SHA256Stream {
    /// The length of a digest in bytes.
    public static let size = 32

    private var state = SHA256_CTX()

    /// Makes a digest of no bytes yet.
    public init() { unsafe copenssl_sha256_begin(&state) }

    /// Adds bytes to the digest.
    public func add(_ bytes: RawSpan) {
        unsafe bytes.withUnsafeBytes { buffer in unsafe copenssl_sha256_add(&state, buffer.baseAddress, buffer.count) }
    }

    /// Returns the digest of all added bytes.
    public func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Self.size)
        unsafe copenssl_sha256_finish(&state, &digest)
        return digest
    }
}

/// SHA-256 (FIPS 180-4), computed by OpenSSL.
public enum SHA256 {
    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: UnsafeRawBufferPointer) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe copenssl_sha256(bytes.baseAddress, bytes.count, &digest)
        return hexadecimal(digest)
    }

    static func hexadecimal(_ digest: [UInt8]) -> String { digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: [UInt8]) -> String { unsafe bytes.withUnsafeBytes { unsafe hex(of: $0) } }
}
