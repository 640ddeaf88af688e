import COpenSSL

/// SHA-256 (FIPS 180-4), by OpenSSL.
public enum SHA256 {
    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: UnsafeRawBufferPointer) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe EVP_Digest(bytes.baseAddress, bytes.count, &digest, nil, EVP_sha256(), nil)
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// The digest in lower-case hexadecimal.
    public static func hex(of bytes: [UInt8]) -> String { unsafe bytes.withUnsafeBytes { unsafe hex(of: $0) } }
}
