import Foundation
import Glibc

/// A TCP socket that closes with its last reference.
///
/// Users of the number hold a reference, because another test may get the number once it is closed.
final class TestSocket: Sendable {
    let number: Int32

    /// Takes ownership of an open descriptor.
    init(owning number: Int32) {
        self.number = number
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }

    deinit { close(number) }

    /// A socket with a port of the loopback interface that does not listen yet, so that connections are refused.
    ///
    /// Nobody else gets the port by chance, but a server that asks for it with `SO_REUSEADDR` gets it.
    static func bound() throws -> (socket: TestSocket, port: UInt16) {
        let bound = TestSocket(owning: Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        var on: Int32 = 1
        setsockopt(bound.number, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(bound.number, address, length) == 0 && getsockname(bound.number, address, &length) == 0
            }
        }
        guard isBound else { throw Obstacle("cannot bind: errno \(errno)") }
        return (bound, UInt16(bigEndian: address.sin_port))
    }

    /// A Unix socket that listens.
    ///
    /// - Parameter backlog: about how many connections may wait to be accepted.
    static func listening(at path: String, backlog: Int32) throws -> TestSocket {
        let socket = TestSocket(owning: Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket.number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isBound, listen(socket.number, backlog) == 0 else { throw Obstacle("cannot listen at \(path): errno \(errno)") }
        return socket
    }

    /// Ends every call on the socket, also a waiting accept, and notifies the peer.
    func shutDown() { shutdown(number, Int32(SHUT_RDWR)) }
}
