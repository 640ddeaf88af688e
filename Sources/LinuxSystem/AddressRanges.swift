/// A set of IP addresses and networks, such as `10.0.0.0/8`, and maybe of all peers on Unix sockets.
public struct AddressRanges: Equatable, Sendable {
    private struct Range: Equatable {
        let first: PeerAddress
        /// How many bits of the address, of 128, are the network's.
        let prefix: Int
    }

    private var ranges: [Range] = []
    private var hasUnix = false

    /// Makes an empty set.
    public init() {}

    /// Whether nothing is in it.
    public var isEmpty: Bool { ranges.isEmpty && !hasUnix }

    /// Adds an address, a network in CIDR notation, or with `unix` all peers on Unix sockets.
    ///
    /// - Returns: why the text is none of these; nil when it was added.
    public mutating func add(_ text: String) -> String? {
        if text == "unix" {
            hasUnix = true
            return nil
        }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = PeerAddress(literal: String(parts[0])) else { return "is no IP address, network or \"unix\"" }
        let bits = parts[0].contains(":") ? 128 : 32
        guard parts.count == 2 else {
            ranges.append(Range(first: address, prefix: 128))
            return nil
        }
        let digits = parts[1].utf8
        guard 1...3 ~= digits.count, digits.allSatisfy({ 48...57 ~= $0 }), digits.count == 1 || digits.first != 48,
            let length = Int(parts[1]), length <= bits
        else { return "has no prefix length of 0 to \(bits)" }
        let prefix = 128 - bits + length
        guard address.masked(to: prefix).isSame(as: address) else { return "has bits beyond its prefix length" }
        ranges.append(Range(first: address, prefix: prefix))
        return nil
    }

    /// Whether an address is one of these, or in one of these networks.
    public func contains(_ address: PeerAddress) -> Bool {
        if address.isSame(as: .local) { return hasUnix }
        return ranges.contains { $0.first.isSame(as: address.masked(to: $0.prefix)) }
    }
}
