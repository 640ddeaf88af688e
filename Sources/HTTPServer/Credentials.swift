import LinuxSystem

/// The credentials in a request's Authorization header (RFC 9110 §11.6.2).
enum Credentials: Equatable, Sendable {
    /// RFC 7617.
    case basic(user: String, password: [UInt8])
    /// RFC 6750.
    case bearer([UInt8])

    /// Reads the header's value; nil when its scheme is another one or it is malformed.
    init?(_ value: ArraySlice<UInt8>) {
        guard let space = value.firstIndex(of: 32) else { return nil }
        let rest = Array(value[space...].drop { $0 == 32 })
        switch String(decoding: value[..<space], as: UTF8.self).lowercased() {
        case "basic":
            guard let decoded = Self.decode(rest), let colon = decoded.firstIndex(of: UInt8(ascii: ":")),
                let user = String(validating: decoded[..<colon], as: UTF8.self)
            else { return nil }
            self = .basic(user: user, password: Array(decoded[(colon + 1)...]))
        case "bearer" where !rest.isEmpty: self = .bearer(rest)
        default: return nil
        }
    }

    private static func decode(_ text: [UInt8]) -> [UInt8]? {
        var bytes = ByteBuffer()
        do throws(SystemError) { try Base64.decode(text.span, into: &bytes) } catch { return nil }
        return bytes.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }
}
