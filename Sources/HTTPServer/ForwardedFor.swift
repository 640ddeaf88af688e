import LinuxSystem

/// Finds the client of a request that came through trusted proxies, by its `X-Forwarded-For`.
///
/// Each proxy adds the address that it was asked from at the end. So the right-most address that is no trusted proxy's was written by
/// one, and everything left of it by whoever sent the request.
enum ForwardedFor {
    /// The most addresses of trusted proxies in a row.
    static let mostProxies = 64
    /// No address with a port is longer.
    private static let longest = 64

    /// The client's address; nil when there is no header, or it is malformed before the client's address is found.
    static func client(_ head: RequestHead, trusted: AddressRanges) -> PeerAddress? {
        var client: PeerAddress?
        var count = 0
        for line in Array(head.values(of: "x-forwarded-for")).reversed() where !line.isEmpty {
            var rest = line
            while true {
                let comma = rest.lastIndex(of: UInt8(ascii: ","))
                guard count < mostProxies, let address = address(rest[(comma.map { $0 + 1 } ?? rest.startIndex)...]) else { return nil }
                client = address
                count += 1
                if !trusted.contains(address) { return client }
                guard let comma else { break }
                rest = rest[..<comma]
            }
        }
        return client
    }

    /// Reads an address, an IPv6 one maybe in brackets, maybe with a port.
    static func address(_ text: ArraySlice<UInt8>) -> PeerAddress? {
        let space: Set<UInt8> = [32, 9]
        var text = text.drop { space.contains($0) }
        while let last = text.last, space.contains(last) { text = text.dropLast() }
        guard text.count <= longest else { return nil }
        if text.first == UInt8(ascii: "[") {
            guard let end = text.firstIndex(of: UInt8(ascii: "]")), isPort(text[(end + 1)...]) else { return nil }
            let inside = text[(text.startIndex + 1)..<end]
            return inside.contains(UInt8(ascii: ":")) ? PeerAddress(ofSender: inside) : nil
        }
        if text.count(where: { $0 == UInt8(ascii: ":") }) == 1, let colon = text.firstIndex(of: UInt8(ascii: ":")) {
            guard isPort(text[colon...]) else { return nil }
            text = text[..<colon]
        }
        return PeerAddress(ofSender: text)
    }

    /// Whether a text is empty, or a colon and a port.
    private static func isPort(_ text: ArraySlice<UInt8>) -> Bool {
        if text.isEmpty { return true }
        guard text.first == UInt8(ascii: ":"), text.count <= 6, let port = RequestParser.number(text.dropFirst()) else { return false }
        return port <= 65535
    }
}

extension PeerAddress {
    /// Reads a sender's literal address; nil for any other text, and for an address in the network whose last one stands for no address,
    /// for all of that network counts as one sender. It is one of multicast, from which nobody sends.
    init?(ofSender text: ArraySlice<UInt8>) {
        self.init(literal: String(decoding: text, as: UTF8.self))
        if self == .local { return nil }
    }
}
