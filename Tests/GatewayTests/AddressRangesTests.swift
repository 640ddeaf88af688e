import Testing

@testable import LinuxSystem

@Suite("Addresses and networks in the config")
struct AddressRangesTests {
    private func ranges(_ texts: String...) -> AddressRanges {
        var ranges = AddressRanges()
        for text in texts { #expect(ranges.add(text) == nil, "\(text)") }
        return ranges
    }

    @Test(
        "A network has the addresses that share its prefix, and no others",
        arguments: [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["9.255.255.255", "11.0.0.0", "::10.1.2.3"]),
            ("192.0.2.6/31", ["192.0.2.6", "192.0.2.7"], ["192.0.2.5", "192.0.2.8"]), ("192.0.2.7/32", ["192.0.2.7"], ["192.0.2.6"]),
            ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1", "2001:db8::1"]),
            ("2001:db8::/63", ["2001:db8::1", "2001:db8:0:1::1"], ["2001:db8:0:2::", "2001:db7:ffff:ffff::"]),
            ("2001:db8::/65", ["2001:db8::7fff:0:0:1"], ["2001:db8::8000:0:0:0"]), ("::1", ["::1"], ["::2", "0.0.0.1"]),
            ("::/0", ["::1", "10.0.0.1"], []),
        ])
    func networks(text: String, inside: [String], outside: [String]) {
        let ranges = ranges(text)
        for address in inside { #expect(PeerAddress(literal: address).map(ranges.contains) == true, "\(address)") }
        for address in outside { #expect(PeerAddress(literal: address).map(ranges.contains) == false, "\(address)") }
        #expect(!ranges.contains(.local))
    }

    @Test("Several hold together, and peers on Unix sockets are meant by name only")
    func several() {
        let ranges = ranges("10.0.0.0/8", "unix", "2001:db8::/32")
        #expect(
            ranges.contains(.local) && ranges.contains(PeerAddress(text: "10.1.1.1")) && ranges.contains(PeerAddress(text: "2001:db8::1")))
        #expect(!ranges.contains(PeerAddress(text: "11.1.1.1")) && !ranges.isEmpty && AddressRanges().isEmpty)
        #expect(!AddressRanges().contains(.local) && !AddressRanges().contains(.example))
    }

    @Test(
        "Anything else is refused",
        arguments: [
            ("", "is no IP"), ("localhost", "is no IP"), ("10.0.0", "is no IP"), ("10.0.0.0.0", "is no IP"), ("010.0.0.0", "is no IP"),
            ("10.0.0.0/", "0 to 32"), ("10.0.0.0/33", "0 to 32"), ("10.0.0.0/-1", "0 to 32"), ("10.0.0.0/08", "0 to 32"),
            ("10.0.0.0/8/8", "0 to 32"), ("10.0.0.0/255.0.0.0", "0 to 32"), ("::/129", "0 to 128"), ("10.0.0.1/8", "beyond"),
            ("2001:db8::1/64", "beyond"), ("fe80::1%eth0", "is no IP"), ("10.0.0.0\u{0}", "is no IP"), ("UNIX", "is no IP"),
            (" 10.0.0.0", "is no IP"), ("[::1]", "is no IP"),
        ])
    func refused(text: String, reason: String) {
        var ranges = AddressRanges()
        #expect(ranges.add(text)?.contains(reason) == true, "\(text)")
        #expect(ranges.isEmpty)
    }
}
