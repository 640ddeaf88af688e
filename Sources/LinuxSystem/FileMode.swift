import Glibc

/// The permissions of a new file or folder.
public struct FileMode: Sendable, Equatable {
    /// The permission bits, at most `0o777`.
    public let bits: UInt32
    /// True when the process's umask does not reduce the bits, as for a mode from the config.
    public let isExact: Bool

    /// Makes a mode from permission bits, which the umask reduces unless `isExact` is true.
    public init(_ bits: UInt32, isExact: Bool = false) { (self.bits, self.isExact) = (bits, isExact) }
}

extension FileDescriptor {
    /// Sets the permissions; the set-user-ID, set-group-ID and sticky bits stay unchanged.
    public func set(_ mode: FileMode) throws(SystemError) {
        guard fchmod(number, try status().st_mode & 0o7000 | mode.bits) == 0 else { throw SystemError("fchmod") }
    }
}
