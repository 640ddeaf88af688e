import LinuxSystem

/// Reads the header by which a proxy says whose connection it passes on: HAProxy's PROXY protocol, versions 1 and 2.
///
/// Strict: what the specification does not allow is refused, because the address would be another one than the proxy meant.
enum ProxyHeader {
    /// The most bytes of a header of version 1, with its CRLF.
    static let longestLine = 107
    /// The most bytes that may follow the first 16 of a header of version 2: addresses and extensions, which are skipped.
    static let longestBlock = 4096
    static let longest = fixedPart + longestBlock
    private static let fixedPart = 16
    private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

    /// Why bytes are no header.
    struct Malformed: Error, Equatable {
        let reason: String

        init(_ reason: String) { self.reason = reason }
    }

    /// The result of parsing the bytes received so far.
    enum Progress: Equatable {
        case incomplete
        /// A whole header of `length` bytes; without a source, the connection is the proxy's own, or of a kind without IP addresses.
        case header(source: PeerAddress?, length: Int)
    }

    /// Parses the header at the start of `bytes`, which are not empty.
    static func parse(_ bytes: ArraySlice<UInt8>) throws(Malformed) -> Progress {
        if signature.starts(with: bytes.prefix(signature.count)) { return try parseBlock(bytes) }
        let word = "PROXY ".utf8
        guard word.starts(with: bytes.prefix(word.count)) else { throw Malformed("the connection does not begin with a PROXY header") }
        return try parseLine(bytes)
    }

    // MARK: Version 1, a line of text

    private static func parseLine(_ bytes: ArraySlice<UInt8>) throws(Malformed) -> Progress {
        guard let lineFeed = bytes.prefix(longestLine).firstIndex(of: 10) else {
            if bytes.count >= longestLine { throw Malformed("the PROXY line is longer than \(longestLine) bytes") }
            return .incomplete
        }
        let line = bytes[..<lineFeed]
        guard line.last == 13, !line.dropLast().contains(13) else { throw Malformed("the PROXY line does not end in CRLF alone") }
        let words = line.dropLast().split(separator: 32, omittingEmptySubsequences: false)
        let length = lineFeed + 1 - bytes.startIndex
        guard words.count >= 2 else { throw Malformed("the PROXY line names no protocol") }
        if words[1].elementsEqual("UNKNOWN".utf8) { return .header(source: nil, length: length) }
        let isIPv6 = words[1].elementsEqual("TCP6".utf8)
        guard isIPv6 || words[1].elementsEqual("TCP4".utf8) else { throw Malformed("the PROXY line is neither of TCP4, TCP6 nor UNKNOWN") }
        guard words.count == 6 else { throw Malformed("the PROXY line has not two addresses and two ports") }
        guard let source = address(words[2], isIPv6), address(words[3], isIPv6) != nil else {
            throw Malformed("the PROXY line has an address that is none of its protocol")
        }
        guard isPort(words[4]), isPort(words[5]) else { throw Malformed("the PROXY line has a port that is none") }
        return .header(source: source, length: length)
    }

    private static func address(_ word: ArraySlice<UInt8>, _ isIPv6: Bool) -> PeerAddress? {
        word.contains(UInt8(ascii: ":")) == isIPv6 ? PeerAddress(ofSender: word) : nil
    }

    private static func isPort(_ word: ArraySlice<UInt8>) -> Bool {
        guard 1...5 ~= word.count, let port = RequestParser.number(word) else { return false }
        return port <= 65535 && (word.count == 1 || word.first != UInt8(ascii: "0"))
    }

    // MARK: Version 2, binary

    private static func parseBlock(_ bytes: ArraySlice<UInt8>) throws(Malformed) -> Progress {
        guard bytes.count >= fixedPart else { return .incomplete }
        let fixed = Array(bytes.prefix(fixedPart))
        guard fixed[12] >> 4 == 2 else { throw Malformed("the PROXY header is of version \(fixed[12] >> 4)") }
        let (command, family, transport) = (fixed[12] & 15, fixed[13] >> 4, fixed[13] & 15)
        guard command <= 1 else { throw Malformed("the PROXY header has the unknown command \(command)") }
        let count = Int(fixed[14]) << 8 | Int(fixed[15])
        guard count <= longestBlock else { throw Malformed("the PROXY header has \(count) bytes of addresses, at most \(longestBlock)") }
        let (isLocal, isUnspecified) = (command == 0, family == 0 || transport == 0)
        guard isLocal || family <= 3 && transport <= 2 else {
            throw Malformed("the PROXY header has the unknown family and protocol \(fixed[13])")
        }
        guard isLocal || isUnspecified || count >= [0, 12, 36, 216][Int(family)] else {
            throw Malformed("the PROXY header is too short for its addresses")
        }
        guard bytes.count >= fixedPart + count else { return .incomplete }
        let block = bytes.dropFirst(fixedPart)
        let length = fixedPart + count
        if isLocal { return .header(source: nil, length: length) }
        switch fixed[13] {
        case 0x11: return .header(source: PeerAddress(ipv4: block.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }), length: length)
        case 0x21:
            let source = PeerAddress(ipv6: block.prefix(16))
            return .header(source: source == .local ? nil : source, length: length)
        default: return .header(source: nil, length: length)
        }
    }
}
