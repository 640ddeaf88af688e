import CLinux
import Glibc

/// A file's bytes mapped into memory and shared with whoever else maps it; unmapped with the last reference.
@safe public final class SharedMapping: @unchecked Sendable {
    /// The first byte; valid as long as this object.
    public let address: UnsafeMutableRawPointer
    /// How many bytes are mapped.
    public let count: Int

    /// Maps the first `count` bytes of a file, which must have as many.
    ///
    /// - Parameter isWritable: whether this process may write them; a write without it is a fatal signal.
    public init(_ file: borrowing FileDescriptor, count: Int, isWritable: Bool = true) throws(SystemError) {
        let protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ
        guard count > 0, let address = unsafe mmap(nil, count, protection, MAP_SHARED, file.number, 0), unsafe address != MAP_FAILED else {
            throw SystemError("mmap", code: count > 0 ? errno : EINVAL)
        }
        // A core dump would write the whole range, however little of it is used.
        _ = unsafe madvise(address, count, Int32(CLINUX_MADV_DONTDUMP))
        unsafe self.address = unsafe address
        self.count = count
    }

    deinit { unsafe munmap(address, count) }

    /// Makes an anonymous file of `count` zero bytes, which exists as long as a descriptor or a mapping of it (memfd_create(2)).
    public static func anonymousFile(_ name: String, count: Int) throws(SystemError) -> FileDescriptor {
        let number = unsafe CLinux.memfd_create(name, 1)
        guard number >= 0 else { throw SystemError("memfd_create \(name)") }
        let file = FileDescriptor(owning: number)
        try file.truncate(to: count)
        return file
    }
}

extension FileDescriptor {
    /// Takes the blocks away from whole pages of a range, whose bytes are zero then; does nothing where the system cannot.
    public func punch(_ offset: Int, _ count: Int) {
        _ = CLinux.fallocate(number, CLINUX_PUNCH_HOLE_KEEP_SIZE, off_t(offset), off_t(count))
    }
}
