import Glibc

/// Paths handled byte by byte, as the system does: in Swift, a slash followed by a combining accent is one character and not a
/// slash.
extension StringProtocol {
    /// Whether the path begins with a slash.
    public var isAbsolutePath: Bool { utf8.first == UInt8(ascii: "/") }

    /// Whether the path contains a slash.
    public var hasSlash: Bool { utf8.contains(UInt8(ascii: "/")) }

    /// The names between the slashes, without empty ones.
    public var pathComponents: [String] { utf8.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) } }
}

extension UInt64 {
    /// The number in sixteen lower-case hexadecimal digits, as in the names of numbered files.
    public var sixteenDigits: String {
        let digits = String(self, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

extension String {
    /// The path from the root, if it is relative to the present working directory, which a library may change later.
    public var absolutePath: String {
        guard !isEmpty, !isAbsolutePath, let current = unsafe getcwd(nil, 0) else { return self }
        defer { unsafe free(current) }
        return unsafe String(cString: current) + "/" + self
    }
}
