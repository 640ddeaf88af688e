/// Paths as the system reads them, byte by byte: to Swift a slash and an accent behind it are one character, and no slash.
extension StringProtocol {
    /// Whether it begins at the root.
    public var isAbsolutePath: Bool { utf8.first == UInt8(ascii: "/") }

    /// Whether it leads through a folder.
    public var hasSlash: Bool { utf8.contains(UInt8(ascii: "/")) }

    /// The names between the slashes; none is empty.
    public var pathComponents: [String] { utf8.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) } }
}
