import CLinux
import Glibc

/// Bytes in a file without a name that nobody can change any more, not even this process (memfd_create(2)).
///
/// It is there as long as this object.
public final class SealedFile: Sendable {
    private let descriptor: FileDescriptor

    /// A path that leads to it, in this process.
    public var path: String { "/proc/self/fd/\(descriptor.number)" }

    /// Copies `bytes` and seals them.
    ///
    /// - Parameter name: what the kernel calls it, as in `/proc/self/maps`; cut where it is long.
    public init(_ bytes: [UInt8], name: String) throws(SystemError) {
        descriptor = try Self.make(String(decoding: name.utf8.prefix(200), as: UTF8.self))
        try unsafe descriptor.writeAll(bytes.span.bytes)
        guard fcntl(descriptor.number, Self.addSeals, Self.allSeals) == 0 else { throw SystemError("seal \(name)") }
    }

    private static let (closeOnExec, allowSealing, executable): (UInt32, UInt32, UInt32) = (1, 2, 0x10)
    private static let addSeals: Int32 = 1033
    /// No further seals, no other size, no writing.
    private static let allSeals: Int32 = 1 | 2 | 4 | 8

    /// Since Linux 6.3 a system may want to be told that what is in it will run; before, it does not know the flag.
    private static func make(_ name: String) throws(SystemError) -> FileDescriptor {
        var number = unsafe CLinux.memfd_create(name, closeOnExec | allowSealing | executable)
        if number < 0, errno == EINVAL { number = unsafe CLinux.memfd_create(name, closeOnExec | allowSealing) }
        guard number >= 0 else { throw SystemError("memfd_create \(name)") }
        return FileDescriptor(owning: number)
    }
}
