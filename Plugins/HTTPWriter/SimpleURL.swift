import Glibc
import LinuxSystem

/// A URL of plain HTTP that every parser reads alike, so that libcurl is not needed to read it: a host name or a whole IPv4 address,
/// perhaps a port, and a path without anything encoded.
struct SimpleURL {
    /// The host in its original spelling.
    let host: String
    let port: UInt16
    let path: String

    /// - Returns: nil for any other URL, which may be valid nevertheless.
    init?(_ text: String) {
        guard text.utf8.count <= 2048, text.prefix(7).lowercased() == "http://" else { return nil }
        let rest = text.dropFirst(7)
        let end = rest.firstIndex(of: "/") ?? rest.endIndex
        let place = rest[..<end].split(separator: ":", omittingEmptySubsequences: false)
        guard (1...2).contains(place.count), Self.isHost(place[0]), let port = place.count == 1 ? 80 : Self.port(place[1]),
            rest[end...].utf8.allSatisfy({ Self.isAlphanumeric($0) || "-._~!$&'()*+,;=:@/".utf8.contains($0) })
        else { return nil }
        (host, self.port, path) = (String(place[0]), port, String(rest[end...]))
    }

    private static func isHost(_ text: Substring) -> Bool {
        // A host that begins with a digit may be an address in one of the older forms: 127.1, 0x7f000001.
        if let first = text.utf8.first, 48...57 ~= first { return SocketAddress(literal: String(text), port: 0)?.family == AF_INET }
        return text.utf8.count <= 253
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                !label.isEmpty && label.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
            }
    }

    private static func port(_ text: Substring) -> UInt16? {
        guard text.utf8.allSatisfy({ 48...57 ~= $0 }), text.first != "0" else { return nil }
        return UInt16(text)
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool { 48...57 ~= byte || 65...90 ~= byte & 0xDF }
}
