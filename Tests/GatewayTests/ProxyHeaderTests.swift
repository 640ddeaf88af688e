import LinuxSystem
import Testing

@testable import HTTPServer

@Suite("Headers of the PROXY protocol")
struct ProxyHeaderTests {
    static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10]

    /// A header of version 2 for TCP over IPv4.
    static func block(_ content: [UInt8]) -> [UInt8] { block(0x21, 0x11, content) }

    /// A header of version 2.
    static func block(_ command: UInt8, _ family: UInt8, _ content: [UInt8]) -> [UInt8] {
        signature + [command, family, UInt8(content.count >> 8), UInt8(content.count & 255)] + content
    }

    static let four: [UInt8] = [192, 0, 2, 7, 10, 0, 0, 1, 0xC0, 0, 0, 80]
    static let six: [UInt8] = [0x20, 1, 0xD, 0xB8] + [UInt8](repeating: 0, count: 11) + [7] + [UInt8](repeating: 0, count: 20)

    /// The source and the length of a header, `-` without a source; the reason for a refusal; or `incomplete`.
    private func parse(_ bytes: [UInt8]) -> String {
        do throws(ProxyHeader.Malformed) {
            guard case .header(let source, let length) = try ProxyHeader.parse(bytes[...]) else { return "incomplete" }
            return "\(source?.address ?? "-") \(length)"
        } catch { return error.reason }
    }

    private func parse(_ text: String) -> String { parse(Array(text.utf8)) }

    // MARK: Version 1

    @Test(
        "A line of version 1 names the source, and ends where the request begins",
        arguments: [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET", "192.0.2.7 41"),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", "255.255.255.255 44"),
            ("PROXY TCP6 2001:db8::7 ::1 1 2\r\nPOST", "2001:db8::7 32"), ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7 37"),
            ("PROXY UNKNOWN\r\n", "- 15"), ("PROXY UNKNOWN anything at all\r\nrest", "- 31"),
        ])
    func line(text: String, expected: String) { #expect(parse(text) == expected) }

    @Test(
        "A line that the specification does not allow is refused",
        arguments: [
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", "PROXY TCP4 192.0.2.7 10.0.0.1 1\r2\r\n", "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", "PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 192.0.2.7 ::1 1 2\r\n", "PROXY TCP6 ::1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7\u{0} 10.0.0.1 1 2\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 1 \r\n",
            "PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n", "PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n", "PROXY UNKNOWNX\r\n", "PROXY \r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n", "GET / HTTP/1.1\r\n", "PROXYTCP4", "\u{16}\u{3}\u{1}",
        ])
    func refused(text: String) {
        #expect(throws: ProxyHeader.Malformed.self) { try ProxyHeader.parse(Array(text.utf8)[...]) }
    }

    @Test("A line may have 107 bytes", arguments: [(106, "- 106"), (107, "- 107"), (108, "the PROXY line is longer than 107 bytes")])
    func longest(count: Int, expected: String) {
        let line = "PROXY UNKNOWN "
        #expect(parse(line + String(repeating: "x", count: count - line.utf8.count - 2) + "\r\n") == expected)
    }

    @Test("A line without its end is waited for, up to 107 bytes", arguments: [(1, true), (6, true), (106, true), (107, false)])
    func unfinished(count: Int, waits: Bool) {
        let bytes = Array((Array("PROXY UNKNOWN ".utf8) + [UInt8](repeating: 120, count: 200)).prefix(count))
        #expect((parse(bytes) == "incomplete") == waits)
    }

    // MARK: Version 2

    @Test("A header of version 2 names the source, and extensions behind the addresses are skipped")
    func addresses() {
        #expect(parse(Self.block(Self.four) + [1, 2, 3]) == "192.0.2.7 28")
        #expect(parse(Self.block(Self.four + [4, 0, 2, 9, 9])) == "192.0.2.7 33")
        #expect(parse(Self.block(0x21, 0x21, Self.six)) == "2001:db8::7 52")
    }

    @Test("LOCAL, unknown families and kinds without a stream of IP keep the socket's own peer")
    func local() {
        #expect(parse(Self.block(0x20, 0x00, [])) == "- 16" && parse(Self.block(0x20, 0x11, Self.four)) == "- 28")
        #expect(parse(Self.block(0x20, 0xFF, [1, 2, 3])) == "- 19")
        for family: UInt8 in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30] { #expect(parse(Self.block(0x21, family, [1])) == "- 17") }
        #expect(parse(Self.block(0x21, 0x12, Self.four)) == "- 28" && parse(Self.block(0x21, 0x22, Self.six)) == "- 52")
        #expect(parse(Self.block(0x21, 0x31, [UInt8](repeating: 47, count: 216))) == "- 232")
    }

    @Test("An address in the network of the one that stands for no address names nobody, and the ones beside it do")
    func reserved() {
        func block(_ last: UInt8) -> [UInt8] {
            var content = [UInt8](repeating: 0xFF, count: 7) + Self.six[7...]
            content[7] = last
            return Self.block(0x21, 0x21, content)
        }
        #expect(parse(block(0xFF)) == "- 52" && parse(Self.block(0x21, 0x21, [UInt8](repeating: 0xFF, count: 36))) == "- 52")
        #expect(parse(block(0xFE)) == "ffff:ffff:ffff:fffe::7 52")
        #expect(parse("PROXY TCP6 ffff:ffff:ffff:ffff::1 ::1 1 2\r\n") == "the PROXY line has an address that is none of its protocol")
        #expect(parse("PROXY TCP6 ffff:ffff:ffff:fffe::1 ::1 1 2\r\n") == "ffff:ffff:ffff:fffe::1 43")
        func forwarded(_ text: String) -> String? { ForwardedFor.address(Array(text.utf8)[...])?.address }
        #expect(forwarded("ffff:ffff:ffff:ffff::1") == nil && forwarded("[ffff:ffff:ffff:ffff::1]:80") == nil)
        #expect(forwarded("[ffff:ffff:ffff:fffe::1]:80") == "ffff:ffff:ffff:fffe::1")
    }

    @Test("Another version, command, family or protocol is refused")
    func unknown() {
        for command: UInt8 in [0x11, 0x31, 0x22, 0x2F, 0x00] {
            #expect(parse(Self.block(command, 0x11, Self.four)).contains("PROXY header"))
        }
        for family: UInt8 in [0x40, 0x41, 0xF1, 0x13, 0x1F, 0x03] {
            #expect(parse(Self.block(0x21, family, Self.four)).contains("unknown family"))
        }
        var bytes = Self.block(Self.four)
        bytes[11] = 13
        #expect(parse(bytes) == "the connection does not begin with a PROXY header")
    }

    @Test(
        "A block that is too short for its addresses is refused",
        arguments: [(UInt8(0x11), 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216), (0x32, 216)])
    func short(family: UInt8, least: Int) {
        func outcome(_ count: Int) -> String { parse(Self.block(0x21, family, [UInt8](repeating: 1, count: count))) }
        #expect(outcome(least - 1) == "the PROXY header is too short for its addresses")
        #expect(outcome(least).hasSuffix(" \(16 + least)") && outcome(least + 1).hasSuffix(" \(17 + least)"))
    }

    @Test("A block may have 4096 bytes", arguments: [(4095, true), (4096, true), (4097, false)])
    func longestBlock(count: Int, isAccepted: Bool) {
        let bytes = Self.block(Self.four + [UInt8](repeating: 0, count: count - 12))
        #expect(parse(bytes) == (isAccepted ? "192.0.2.7 \(16 + count)" : "the PROXY header has \(count) bytes of addresses, at most 4096"))
        // The length decides, before the rest has come.
        #expect((parse(Array(bytes.prefix(16))) == "incomplete") == isAccepted)
    }

    @Test("Every beginning of a header is waited for")
    func beginnings() {
        for whole in [Self.block(Self.four), Self.block(0x21, 0x21, Self.six), Array("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".utf8)] {
            for count in 1..<whole.count { #expect(parse(Array(whole.prefix(count))) == "incomplete", "\(count)") }
        }
    }
}

@Suite("X-Forwarded-For of trusted proxies")
struct ForwardedForTests {
    private static let trusted: AddressRanges = {
        var ranges = AddressRanges()
        for text in ["10.0.0.0/8", "2001:db8:f::/48"] { _ = ranges.add(text) }
        return ranges
    }()

    /// The client by these header lines; empty when there is none.
    private func client(_ lines: [String]) throws -> String {
        let head = "POST /ingest HTTP/1.1\r\nHost: a\r\n" + lines.map { "X-Forwarded-For: \($0)\r\n" }.joined() + "\r\n"
        guard case .head(let head, _) = try RequestParser.parse(Array(head.utf8)[...]) else { return "no head" }
        return ForwardedFor.client(head, trusted: Self.trusted)?.address ?? ""
    }

    @Test(
        "The right-most address that is no trusted proxy's is the client's",
        arguments: [
            (["192.0.2.1"], "192.0.2.1"), (["192.0.2.1, 192.0.2.2"], "192.0.2.2"), (["192.0.2.1, 192.0.2.2, 10.0.0.3"], "192.0.2.2"),
            (["192.0.2.1 ,\t10.0.0.1,10.0.0.2 "], "192.0.2.1"), (["192.0.2.1", "192.0.2.2"], "192.0.2.2"),
            (["192.0.2.1", "10.0.0.2"], "192.0.2.1"), (["192.0.2.1", "", "10.0.0.2"], "192.0.2.1"), (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            (["2001:db8::1, 2001:db8:f::1"], "2001:db8::1"), (["192.0.2.1:4711"], "192.0.2.1"), (["[2001:db8::1]:4711"], "2001:db8::1"),
            (["[2001:db8::1]"], "2001:db8::1"), (["::ffff:192.0.2.1"], "192.0.2.1"), (["nonsense, 192.0.2.1"], "192.0.2.1"),
            ([", 192.0.2.1, 10.0.0.1"], "192.0.2.1"),
        ])
    func rightmost(lines: [String], expected: String) throws { #expect(try client(lines) == expected) }

    @Test(
        "A header that is malformed before a client is found names nobody",
        arguments: [
            [], [""], ["unknown"], ["192.0.2.1, unknown"], ["192.0.2.1, "], [","], ["192.0.2.1,,10.0.0.1"], ["192.0.2.1:x"],
            ["192.0.2.1:65536"], ["192.0.2.1:"], ["[192.0.2.1]"], ["[2001:db8::1"], ["[2001:db8::1]x"], ["\"192.0.2.1\""],
            ["192.0.2.1 192.0.2.2"],
            ["192.0.2.256"], ["fe80::1%eth0"], ["nonsense, 10.0.0.1"], ["for=192.0.2.1"], [String(repeating: "1", count: 65)],
        ])
    func malformed(lines: [String]) throws { #expect(try client(lines) == "") }

    @Test("At most 64 trusted proxies stand in a row", arguments: [(63, "192.0.2.1"), (64, ""), (65, "")])
    func proxies(count: Int, expected: String) throws {
        #expect(try client([(["192.0.2.1"] + [String](repeating: "10.0.0.1", count: count)).joined(separator: ",")]) == expected)
    }
}

@Suite("Refusals in the log")
struct RefusalLogTests {
    @Test("Each kind is a line a minute at most, which says how many came since the last one")
    func throttled() {
        let log = RefusalLog()
        func note(_ kind: RefusalLog.Kind, _ milliseconds: Int) -> Int? {
            log.note(kind, now: MonotonicTime(nanoseconds: 1) + .milliseconds(milliseconds))
        }
        #expect(note(.unknownPath, 0) == 1 && note(.unknownPath, 1) == nil && note(.unknownPath, 59_999) == nil)
        #expect(note(.malformed, 2) == 1 && note(.tls, 3) == 1 && note(.proxy, 4) == 1)
        #expect(note(.unknownPath, 60_000) == 3 && note(.unknownPath, 60_001) == nil && note(.unknownPath, 500_000) == 2)
    }

    @Test("Only what a sender or a person at a firewall should know of is a kind", arguments: 400..<600)
    func kinds(status: Int) { #expect((RefusalLog.Kind(status: status) != nil) == [400, 401, 403, 404].contains(status)) }
}
