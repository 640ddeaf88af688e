import COpenSSL

/// SHA-256 (FIPS 180-4) of bytes added in pieces, computed by OpenSSL; used by one thread.
@safe public final class SHA256Stream {
    /// The length of a digest in bytes.
    public static let size = 32

    private let context: OpaquePointer?

    /// Makes a digest of no bytes yet.
    public init() {
        unsafe context = EVP_MD_CTX_new()
        unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil)
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    /// Adds bytes to the digest.
    public func add(_ bytes: RawSpan) {
        unsafe bytes.withUnsafeBytes { buffer in _ = unsafe EVP_DigestUpdate(context, buffer.baseAddress, buffer.count) }
    }

    /// Returns the digest of all added bytes, or nil when OpenSSL had no memory.
    public func finish() -> [UInt8]? {
        var digest = [UInt8](repeating: 0, count: Self.size)
        return unsafe EVP_DigestFinal_ex(context, &digest, nil) == 1 ? digest : nil
    }
}

/// SHA-256 (FIPS 180-4), computed by OpenSSL.
public enum SHA256 {
    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: UnsafeRawBufferPointer) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe EVP_Digest(bytes.baseAddress, bytes.count, &digest, nil, EVP_sha256(), nil)
        return hexadecimal(digest)
    }

    static func hexadecimal(_ digest: [UInt8]) -> String { digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: [UInt8]) -> String { unsafe bytes.withUnsafeBytes { unsafe hex(of: $0) } }
}
