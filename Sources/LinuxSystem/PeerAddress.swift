import Glibc

/// The peer of a connection, as senders are counted for fairness: an IPv4 address, the /64 network of an IPv6 address (a customer
/// usually has a whole one), or all peers on Unix sockets together.
public struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
    /// The address in 16 bytes: the upper half of an IPv6 address, or an IPv4-mapped IPv6 address; all ones in `low` without an address.
    private let high: UInt64
    private let low: UInt64

    private init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

    /// A peer without an address, as on a Unix socket.
    public static let local = PeerAddress(high: 0, low: .max)

    /// Reads the address that `accept` returned; a family other than IPv4 and IPv6 gives ``local``.
    init(_ storage: sockaddr_storage) {
        var storage = storage
        switch Int32(storage.ss_family) {
        case AF_INET:
            let address = unsafe withUnsafeBytes(of: &storage) { unsafe $0.loadUnaligned(as: sockaddr_in.self) }
            self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(UInt32(bigEndian: address.sin_addr.s_addr)))
        case AF_INET6:
            let address = unsafe withUnsafeBytes(of: &storage) { unsafe $0.loadUnaligned(as: sockaddr_in6.self) }
            let halves = unsafe withUnsafeBytes(of: address.sin6_addr) {
                unsafe (
                    UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                    UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                )
            }
            let isMapped = halves.0 == 0 && halves.1 >> 32 == 0xFFFF
            self.init(high: halves.0, low: isMapped ? halves.1 : 0)
        default: self = .local
        }
    }

    /// The address as 16 bytes, to be hashed.
    public var bytes: [UInt8] {
        [high, low].flatMap { half in stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: half >> UInt64($0)) } }
    }

    /// The usual text form: `192.0.2.1`, `2001:db8:0:1::/64`, or `unix`.
    public var description: String {
        if self == .local { return "unix" }
        if low != 0 {
            return stride(from: 24, through: 0, by: -8).map { "\(UInt8(truncatingIfNeeded: low >> UInt64($0)))" }.joined(separator: ".")
        }
        let groups = stride(from: 48, through: 0, by: -16).map { String(UInt16(truncatingIfNeeded: high >> UInt64($0)), radix: 16) }
        return groups.joined(separator: ":") + "::/64"
    }
}
