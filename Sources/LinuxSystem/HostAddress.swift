import Glibc

/// Checks of IP addresses in text form.
public enum HostAddress {
    /// Whether a text is a numeric IPv4 or IPv6 address, also with a zone (`fe80::1%eth0`); no DNS query is made.
    public static func isNumeric(_ text: String) -> Bool {
        // The zone is removed, because the interface need not exist for the text to be an address.
        let withoutZone = text.contains(":") ? String(text.prefix { $0 != "%" }) : text
        return unsafe resolved(withoutZone) { _ in true } ?? false
    }

    /// Whether a socket that listens at an address can be reached from this machine only.
    public static func isLoopback(_ text: String) -> Bool {
        if text.lowercased() == "localhost" { return true }
        return unsafe resolved(text) { address in
            unsafe address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
                if unsafe Int32(address.pointee.sin_family) == AF_INET {
                    return unsafe UInt32(bigEndian: address.pointee.sin_addr.s_addr) >> 24 == 127
                }
                return text.prefix { $0 != "%" } == "::1" || text.lowercased().hasPrefix("::ffff:127.")
            }
        } ?? false
    }

    private static func resolved<T>(_ text: String, _ body: (UnsafeMutablePointer<sockaddr>) -> T) -> T? {
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = AI_NUMERICHOST
        var list: UnsafeMutablePointer<addrinfo>?
        guard !text.isEmpty, unsafe getaddrinfo(text, nil, &hints, &list) == 0 else { return nil }
        defer { unsafe freeaddrinfo(list) }
        return unsafe (list?.pointee.ai_addr).map { unsafe body($0) }
    }
}
