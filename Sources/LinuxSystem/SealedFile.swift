import CLinux
import Glibc

/// Bytes in an anonymous file that nobody can change, not even this process (memfd_create(2)).
///
/// The file exists as long as this object.
public final class SealedFile: Sendable {
    private let descriptor: FileDescriptor

    /// A path to the file, valid in this process.
    public var path: String { "/proc/self/fd/\(descriptor.number)" }

    /// Copies `bytes` and seals them.
    ///
    /// - Parameter name: the name in `/proc/self/maps`; shortened to 200 bytes.
    public init(_ bytes: [UInt8], name: String) throws(SystemError) {
        descriptor = try Self.make(String(decoding: name.utf8.prefix(200), as: UTF8.self))
        try unsafe descriptor.writeAll(bytes.span.bytes)
        guard fcntl(descriptor.number, Self.addSeals, Self.allSeals) == 0 else { throw SystemError("seal \(name)") }
    }

    private static let (closeOnExec, allowSealing, executable): (UInt32, UInt32, UInt32) = (1, 2, 0x10)
    private static let addSeals: Int32 = 1033
    /// F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE.
    private static let allSeals: Int32 = 1 | 2 | 4 | 8

    /// Requests an executable file, which systems from Linux 6.3 on may require; older kernels reject the flag.
    private static func make(_ name: String) throws(SystemError) -> FileDescriptor {
        var number = unsafe CLinux.memfd_create(name, closeOnExec | allowSealing | executable)
        if number < 0, errno == EINVAL { number = unsafe CLinux.memfd_create(name, closeOnExec | allowSealing) }
        guard number >= 0 else { throw SystemError("memfd_create \(name)") }
        return FileDescriptor(owning: number)
    }
}
