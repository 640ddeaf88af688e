import CLinux
import Glibc

extension Socket {
    /// Sends one datagram to a Unix socket, without waiting for room (EAGAIN); a name that begins with `@` is abstract (unix(7)).
    public static func sendDatagram(_ bytes: [UInt8], to name: String) throws(SystemError) {
        let place = "send to \(name)"
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var path = Array(name.utf8)
        let isAbstract = path.first == UInt8(ascii: "@")
        if isAbstract { path[0] = 0 }
        guard path.count < MemoryLayout.size(ofValue: address.sun_path) else { throw SystemError(place, code: ENAMETOOLONG) }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path) }
        let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw SystemError(place) }
        let descriptor = FileDescriptor(owning: number)
        // The length of an abstract name is given by the address length; a path ends with a NUL.
        let length = MemoryLayout<sa_family_t>.size + path.count + (isAbstract ? 0 : 1)
        let sent = unsafe withUnsafePointer(to: &address) { address in
            let address = unsafe UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
            return retrying {
                unsafe sendto(
                    descriptor.number, bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL), address,
                    socklen_t(length))
            }
        }
        guard sent == bytes.count else { throw SystemError(place) }
    }
}
