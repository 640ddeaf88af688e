import CLinux
import Glibc

/// TCP sockets, non-blocking and close-on-exec; functions take borrowed descriptor numbers.
public enum Socket {
    /// Whether a connection has been closed or reset by its peer; never waits.
    ///
    /// - Parameter orHalf: also whether the peer will send nothing more.
    public static func isGone(_ socket: Int32, orHalf: Bool) -> Bool {
        let half: Int32 = orHalf ? CLINUX_POLLRDHUP : 0
        var poll = pollfd(fd: socket, events: Int16(half), revents: 0)
        return unsafe Glibc.poll(&poll, 1, 0) > 0 && Int32(poll.revents) & (POLLHUP | POLLERR | half) != 0
    }

    /// The first byte that has come and was not received yet; it stays there. Nil when there is none.
    public static func firstByte(_ socket: Int32) -> UInt8? {
        var byte: UInt8 = 0
        return unsafe recv(socket, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) == 1 ? byte : nil
    }

    /// Sends the acknowledgement that the kernel delays, for a peer that sends nothing more before it (tcp(7), `TCP_QUICKACK`).
    public static func acknowledge(_ socket: Int32) { set(socket, Int32(IPPROTO_TCP), TCP_QUICKACK, 1) }

    /// Opens a listening socket; an empty `address` means all interfaces, IPv6 and IPv4.
    public static func listen(address: String, port: UInt16) throws(SystemError) -> FileDescriptor {
        let place = "listen on \(address.contains(":") ? "[\(address)]" : address):\(port)"
        var failure = SystemError(place, code: EADDRNOTAVAIL)
        for candidate in try resolve(address.isEmpty ? "::" : address, port, place) {
            do throws(SystemError) { return try open(candidate, place) } catch { failure = error }
        }
        // A host without IPv6 can still listen on all IPv4 interfaces.
        if address.isEmpty, failure.code == EAFNOSUPPORT { return try listen(address: "0.0.0.0", port: port) }
        throw failure
    }

    private static func resolve(_ host: String, _ port: UInt16, _ place: String) throws(SystemError) -> [SocketAddress] {
        do throws(SocketAddress.Unknown) { return try SocketAddress.resolve(host, port: port, as: .listener) } catch {
            throw SystemError("\(place): no such address", code: EADDRNOTAVAIL)
        }
    }

    private static func open(_ address: SocketAddress, _ place: String) throws(SystemError) -> FileDescriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let number = socket(address.family, type, 0)
        guard number >= 0 else { throw SystemError(place) }
        let descriptor = FileDescriptor(owning: number)
        descriptor.closeInForks()
        set(number, SOL_SOCKET, SO_REUSEADDR, 1)
        if address.family == AF_INET6 { set(number, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        let failure = unsafe address.errno { unsafe bind(number, $0, $1) }
        guard failure == 0 else { throw SystemError(place, code: failure) }
        guard Glibc.listen(number, SOMAXCONN) == 0 else { throw SystemError(place) }
        return descriptor
    }

    /// The port of a listening socket; it differs from the requested one if that was 0.
    public static func port(of descriptor: borrowing FileDescriptor) -> UInt16 {
        var address = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            _ = unsafe getsockname(
                descriptor.number, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
        }
        // Both families keep the port at the same place, in network order.
        return UInt16(bigEndian: address.sin6_port)
    }

    /// The result of accepting a connection.
    public enum Accepted: ~Copyable {
        case connection(FileDescriptor, PeerAddress)
        /// No connection is waiting.
        case none
        /// The process or the machine has no resources for another connection (EMFILE, ENFILE, ENOBUFS, ENOMEM).
        case exhausted(SystemError)
    }

    /// Accepts the next waiting connection and switches Nagle's algorithm off.
    public static func accept(_ listener: Int32) -> Accepted {
        while true {
            let flags = Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
            var address = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let number = unsafe withUnsafeMutablePointer(to: &address) { address in
                unsafe accept4(listener, UnsafeMutableRawPointer(address).assumingMemoryBound(to: sockaddr.self), &length, flags)
            }
            if number >= 0 {
                set(number, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
                let connection = FileDescriptor(owning: number)
                connection.closeInForks()
                return .connection(connection, PeerAddress(address))
            }
            switch errno {
            case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted(SystemError("accept"))
            case EINTR, ECONNABORTED, EPROTO: continue
            default: return .none
            }
        }
    }

    /// Receives what is available into `buffer`, at most `limit` bytes.
    public static func receive(_ socket: Int32, into buffer: inout [UInt8], atMost limit: Int) -> Transfer {
        Transfer(unsafe recv(socket, &buffer, min(limit, buffer.count), 0))
    }

    /// Copies what is available into `buffer`, at most `limit` bytes; it stays there to be received.
    public static func peek(_ socket: Int32, into buffer: inout [UInt8], atMost limit: Int) -> Transfer {
        Transfer(unsafe recv(socket, &buffer, min(limit, buffer.count), Int32(MSG_PEEK)))
    }

    /// Sends the bytes from `offset` on; never raises SIGPIPE.
    public static func send(_ socket: Int32, _ bytes: [UInt8], from offset: Int) -> Transfer {
        unsafe bytes.withUnsafeBytes { buffer in
            let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[offset...])
            return Transfer(unsafe Glibc.send(socket, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL)))
        }
    }

    /// Shuts down the sending direction; receiving goes on.
    public static func finishSending(_ socket: Int32) { shutdown(socket, Int32(SHUT_WR)) }

    /// Makes two stream sockets that are connected to each other (socketpair(2)).
    ///
    /// - Returns: their descriptors, which the caller owns.
    public static func pair() throws(SystemError) -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw SystemError("socketpair")
        }
        return (ends[0], ends[1])
    }

    static func set(_ socket: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        unsafe setsockopt(socket, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }
}
