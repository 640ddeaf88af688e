import CLinux
import Glibc

/// The address of a socket: of TCP, IPv4 or IPv6 with its port, or the path of a Unix socket.
public struct SocketAddress: Equatable, Sendable {
    var storage = sockaddr_storage()
    var length: socklen_t = 0

    /// Why a name has no address, in the C library's words.
    public struct Unknown: Error, Equatable, Sendable {
        /// The reason, such as `Name or service not known`.
        public let reason: String
    }

    /// What a host's text may be.
    public enum Kind: Sendable {
        /// A name or a literal address to connect to.
        case server
        /// A name or a literal address to listen at.
        case listener
    }

    private init() {}

    /// The address that a text is, such as `127.0.0.1` or `::1`, without a lookup; nil for a name.
    public init?(literal text: String, port: UInt16) {
        var (four, six) = (sockaddr_in(), sockaddr_in6())
        (four.sin_family, four.sin_port) = (sa_family_t(AF_INET), port.bigEndian)
        (six.sin6_family, six.sin6_port) = (sa_family_t(AF_INET6), port.bigEndian)
        if unsafe inet_pton(AF_INET, text, &four.sin_addr) == 1 {
            unsafe withUnsafeBytes(of: &four) { unsafe set($0) }
        } else if unsafe inet_pton(AF_INET6, text, &six.sin6_addr) == 1 {
            unsafe withUnsafeBytes(of: &six) { unsafe set($0) }
        } else {
            return nil
        }
    }

    /// The address of the Unix socket at a path; nil when the path is empty, has a NUL, or is longer than 107 bytes.
    public init?(path: String) {
        let bytes = Array(path.utf8)
        guard 1...Self.longestPath ~= bytes.count, !bytes.contains(0) else { return nil }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        unsafe withUnsafeBytes(of: &address) { unsafe set($0) }
    }

    /// The most bytes of the path of a Unix socket (unix(7)).
    public static let longestPath = 107

    private mutating func set(_ address: UnsafeRawBufferPointer) {
        length = socklen_t(address.count)
        unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyMemory(from: address) }
    }

    /// The address family, `AF_INET`, `AF_INET6` or `AF_UNIX`.
    public var family: Int32 { Int32(storage.ss_family) }

    /// Whether it is an IPv6 address.
    public var isIPv6: Bool { family == AF_INET6 }

    /// The addresses of a host, in the order in which they should be tried; a name is looked up, which may take long.
    public static func resolve(_ host: String, port: UInt16, as kind: Kind) throws(Unknown) -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = kind == .listener ? AI_NUMERICSERV | AI_PASSIVE : AI_NUMERICSERV
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard code == 0 else { throw Unknown(reason: unsafe gai_strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)") }
        defer { unsafe freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = unsafe list
        while let info = unsafe next {
            var address = SocketAddress()
            unsafe address.set(UnsafeRawBufferPointer(start: info.pointee.ai_addr, count: Int(info.pointee.ai_addrlen)))
            found.append(address)
            unsafe next = info.pointee.ai_next
        }
        return found
    }

    /// Whether both are the same address and port.
    public static func == (one: SocketAddress, other: SocketAddress) -> Bool {
        var (one, other) = (one, other)
        return unsafe one.length == other.length && memcmp(&one.storage, &other.storage, Int(one.length)) == 0
    }

    /// Calls a function of the C library with the address, such as connect(2).
    ///
    /// - Returns: 0, or the `errno` with which the call failed, read before anything else could change it.
    func errno(of call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        unsafe withUnsafePointer(to: storage) { storage in
            unsafe call(UnsafeRawPointer(storage).assumingMemoryBound(to: sockaddr.self), length) == 0 ? 0 : Glibc.errno
        }
    }
}

extension Socket {
    /// How a connection began.
    public enum Connecting: Equatable, Sendable {
        case connected
        /// The socket becomes writable when the connection is there or has failed; ``Socket/failure(of:)`` tells which.
        case underWay
        /// The server of a Unix socket has as many connections waiting to be accepted as it lets wait.
        case full
        /// It failed with this `errno`.
        case failed(Int32)
    }

    /// The type of a non-blocking TCP socket, for socket(2).
    public static let stream = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)

    /// Begins to connect a non-blocking socket, and switches Nagle's algorithm off.
    public static func connect(_ socket: Int32, to address: SocketAddress) -> Connecting {
        set(socket, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        switch unsafe address.errno(of: { unsafe Glibc.connect(socket, $0, $1) }) {
        case 0: return .connected
        case EINPROGRESS, EINTR: return .underWay
        case EAGAIN where address.family == AF_UNIX: return .full
        case let failure: return .failed(failure)
        }
    }

    /// Binds a socket to an address of this machine, whose port is chosen when the socket connects.
    ///
    /// - Returns: the `errno` of a failure; nil after a success.
    public static func setSource(of socket: Int32, to address: SocketAddress) -> Int32? {
        // IP_BIND_ADDRESS_NO_PORT of linux/in.h: one local port can serve connections to several places then.
        set(socket, Int32(IPPROTO_IP), 24, 1)
        let failure = unsafe address.errno { unsafe bind(socket, $0, $1) }
        return failure == 0 ? nil : failure
    }

    /// The `errno` with which a socket failed, which is forgotten then; 0 when it did not fail.
    public static func failure(of socket: Int32) -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return unsafe getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno
    }

    /// Sends what follows `offset` of a head and a body together, in one call; never raises SIGPIPE.
    public static func send(_ socket: Int32, _ head: [UInt8], _ body: UnsafeRawBufferPointer, from offset: Int) -> Transfer {
        unsafe head.withUnsafeBytes { head in
            unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { parts in
                let (fromHead, fromBody) = (min(offset, head.count), max(0, offset - head.count))
                guard fromBody <= body.count else { return .done(0) }
                unsafe parts[0] = part(head, from: fromHead)
                unsafe parts[1] = part(body, from: fromBody)
                var message = unsafe msghdr()
                unsafe message.msg_iov = parts.baseAddress
                unsafe message.msg_iovlen = 2
                return Transfer(unsafe sendmsg(socket, &message, Int32(MSG_NOSIGNAL)))
            }
        }
    }

    private static func part(_ bytes: UnsafeRawBufferPointer, from start: Int) -> iovec {
        unsafe iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress?.advanced(by: start)), iov_len: bytes.count - start)
    }
}
