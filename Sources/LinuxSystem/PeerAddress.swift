import Glibc

/// The peer of a connection. Two are equal when they count as one sender: an IPv4 address, the /64 network of an IPv6 address (a
/// customer usually has a whole one), or all peers on Unix sockets together.
public struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
    /// The upper half of the address, which is an IPv6 address or an IPv4-mapped one; all ones without an address.
    private let high: UInt64
    private let low: UInt64

    private init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

    /// A peer without an address, as on a Unix socket.
    public static let local = PeerAddress(high: .max, low: .max)

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
            self.init(high: halves.0, low: halves.1)
        default: self = .local
        }
    }

    /// Reads the literal address that a text is, such as `192.0.2.1` or `2001:db8::7`; nil for any other text.
    public init?(literal text: String) {
        // The C library stops at a NUL.
        guard text.utf8.allSatisfy({ $0 != 0 }) else { return nil }
        var (four, six) = (in_addr(), in6_addr())
        if unsafe inet_pton(AF_INET, text, &four) == 1 {
            self.init(ipv4: UInt32(bigEndian: four.s_addr))
        } else if unsafe inet_pton(AF_INET6, text, &six) == 1 {
            let bytes = unsafe withUnsafeBytes(of: six) { unsafe Array($0) }
            self.init(ipv6: bytes[...])
            // This one stands for no address.
            if isSame(as: .local) { return nil }
        } else {
            return nil
        }
    }

    /// An IPv4 address, its first number in the highest bits.
    public init(ipv4 address: UInt32) { self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(address)) }

    /// An IPv6 address of 16 bytes in network order; missing ones count as 0.
    public init(ipv6 bytes: ArraySlice<UInt8>) {
        func half(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } << UInt64(64 - 8 * bytes.count) }
        self.init(high: half(bytes.prefix(8)), low: half(bytes.dropFirst(8).prefix(8)))
    }

    /// Whether both are the same address, not only the same sender.
    public func isSame(as other: PeerAddress) -> Bool { high == other.high && low == other.low }

    /// The address with zeros behind the first `prefix` bits, of 128.
    func masked(to prefix: Int) -> PeerAddress {
        func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(UInt64.max >> UInt64(bits)) }
        return PeerAddress(high: high & mask(prefix), low: low & mask(prefix - 64))
    }

    private var isIPv4: Bool { high == 0 && low >> 32 == 0xFFFF }

    /// Whether both count as one sender.
    public static func == (one: PeerAddress, other: PeerAddress) -> Bool {
        one.high == other.high && (one.low == other.low || !(one.isIPv4 || other.isIPv4))
    }

    /// Hashes what tells senders apart.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(high)
        if isIPv4 { hasher.combine(low) }
    }

    /// The sender as 16 bytes, to be hashed.
    public var bytes: [UInt8] { (isIPv4 ? [high, low] : [high, 0]).flatMap { Self.bytes(of: $0) } }

    private static func bytes(of half: UInt64) -> [UInt8] {
        stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: half >> UInt64($0)) }
    }

    /// The whole address in its usual form (RFC 5952), `192.0.2.1` or `2001:db8::7`; empty without an address.
    public var address: String {
        if self == .local { return "" }
        if isIPv4 { return description }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let bytes = Self.bytes(of: high) + Self.bytes(of: low)
        guard unsafe inet_ntop(AF_INET6, bytes, &text, socklen_t(text.count)) != nil else { return "" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The sender in words: `192.0.2.1`, `2001:db8:0:1::/64`, or `unix`.
    public var description: String {
        if self == .local { return "unix" }
        if isIPv4 {
            return stride(from: 24, through: 0, by: -8).map { "\(UInt8(truncatingIfNeeded: low >> UInt64($0)))" }.joined(separator: ".")
        }
        let groups = stride(from: 48, through: 0, by: -16).map { String(UInt16(truncatingIfNeeded: high >> UInt64($0)), radix: 16) }
        return groups.joined(separator: ":") + "::/64"
    }
}
