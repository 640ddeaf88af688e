import Glibc
import Testing

@testable import LinuxSystem

@Suite("Addresses that identify senders")
struct PeerAddressTests {
    private func peer(_ text: String) -> PeerAddress { PeerAddress(text: text) }

    @Test(
        "An IPv4 address stands for itself, and an IPv6 address for its /64",
        arguments: [
            ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"), ("fe80::1", "fe80:0:0:0::/64"),
        ])
    func description(address: String, expected: String) { #expect(peer(address).description == expected) }

    @Test(
        "The whole address is known in its usual form",
        arguments: [
            ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1:2:3:4:5"),
            ("fe80:0::1", "fe80::1"), ("::1", "::1"), ("::2:ffff:1:1", "::2:ffff:1:1"),
        ])
    func whole(address: String, expected: String) { #expect(peer(address).address == expected) }

    @Test("Addresses in one /64 are one sender, and other senders have other bytes")
    func networks() {
        #expect(peer("2001:db8::1") == peer("2001:db8::ffff:ffff:ffff:ffff"))
        #expect(peer("2001:db8::1") != peer("2001:db8:0:1::1"))
        #expect(peer("192.0.2.7") != peer("192.0.2.8"))
        #expect(peer("::1") == peer("::2") && peer("::1").hashValue == peer("::2").hashValue && peer("::1") != peer("0.0.0.1"))
        #expect(Set(["192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1"].map { peer($0).bytes }).count == 4)
    }

    @Test("All peers of Unix sockets are one sender")
    func local() {
        var storage = sockaddr_storage()
        storage.ss_family = sa_family_t(AF_UNIX)
        #expect(PeerAddress(storage) == .local)
        #expect(PeerAddress(storage).description == "unix" && PeerAddress(storage).address.isEmpty)
        #expect(peer("::1") != .local)
        #expect(peer("::1").description == "0:0:0:0::/64")
    }
}

extension PeerAddress {
    /// Makes an address from its text, as `accept` would report it.
    init(text: String) {
        var storage = sockaddr_storage()
        withUnsafeMutableBytes(of: &storage) { bytes in
            if text.contains(":") {
                var address = sockaddr_in6()
                address.sin6_family = sa_family_t(AF_INET6)
                inet_pton(AF_INET6, text, &address.sin6_addr)
                bytes.storeBytes(of: address, as: sockaddr_in6.self)
            } else {
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                inet_pton(AF_INET, text, &address.sin_addr)
                bytes.storeBytes(of: address, as: sockaddr_in.self)
            }
        }
        self.init(storage)
    }

    static let example = PeerAddress(text: "192.0.2.1")
}
