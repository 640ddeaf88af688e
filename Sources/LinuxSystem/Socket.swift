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

    private struct Address {
        var storage = sockaddr_storage()
        var length: socklen_t = 0
    }

    private static func resolve(_ host: String, _ port: UInt16, _ place: String) throws(SystemError) -> [Address] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, String(port), &hints, &list) == 0 else {
            throw SystemError("\(place): no such address", code: EADDRNOTAVAIL)
        }
        defer { unsafe freeaddrinfo(list) }
        var found: [Address] = []
        var next = unsafe list
        while let info = unsafe next {
            var address = Address()
            address.length = unsafe info.pointee.ai_addrlen
            unsafe withUnsafeMutableBytes(of: &address.storage) { storage in
                unsafe storage.copyMemory(
                    from: UnsafeRawBufferPointer(start: info.pointee.ai_addr, count: Int(info.pointee.ai_addrlen)))
            }
            found.append(address)
            unsafe next = info.pointee.ai_next
        }
        return found
    }

    private static func open(_ address: Address, _ place: String) throws(SystemError) -> FileDescriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let number = socket(Int32(address.storage.ss_family), type, 0)
        guard number >= 0 else { throw SystemError(place) }
        let descriptor = FileDescriptor(owning: number)
        set(number, SOL_SOCKET, SO_REUSEADDR, 1)
        if Int32(address.storage.ss_family) == AF_INET6 { set(number, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        let bound = unsafe withUnsafePointer(to: address.storage) { storage in
            unsafe bind(number, UnsafeRawPointer(storage).assumingMemoryBound(to: sockaddr.self), address.length)
        }
        guard bound == 0, Glibc.listen(number, SOMAXCONN) == 0 else { throw SystemError(place) }
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
                return .connection(FileDescriptor(owning: number), PeerAddress(address))
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

    /// Sends the bytes from `offset` on; never raises SIGPIPE.
    public static func send(_ socket: Int32, _ bytes: [UInt8], from offset: Int) -> Transfer {
        unsafe bytes.withUnsafeBytes { buffer in
            let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[offset...])
            return Transfer(unsafe Glibc.send(socket, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL)))
        }
    }

    /// Shuts down the sending direction; receiving goes on.
    public static func finishSending(_ socket: Int32) { shutdown(socket, Int32(SHUT_WR)) }

    private static func set(_ socket: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        unsafe setsockopt(socket, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }
}
