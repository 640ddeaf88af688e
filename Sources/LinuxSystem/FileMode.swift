import Glibc

/// The permissions that a file or folder is made with.
public struct FileMode: Sendable, Equatable {
    /// At most `0o777`.
    public let bits: UInt32
    /// True where the process's umask takes nothing away from it, as from one that a person wrote down.
    public let isExact: Bool

    public init(_ bits: UInt32, isExact: Bool = false) { (self.bits, self.isExact) = (bits, isExact) }
}

extension FileDescriptor {
    /// Gives the file or folder these permissions; what it has beyond them, as a folder's set-group-ID bit, stays.
    public func set(_ mode: FileMode) throws(SystemError) {
        guard fchmod(number, try status().st_mode & 0o7000 | mode.bits) == 0 else { throw SystemError("fchmod") }
    }
}
