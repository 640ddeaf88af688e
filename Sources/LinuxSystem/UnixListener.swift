import CLinux
import Glibc

extension Socket {
    /// Opens a listening Unix socket at a path; the file of one that nobody listens at any more is replaced.
    ///
    /// - Parameter mode: the permissions of the file, at most `0o777`, whatever the umask is; whoever may write may connect.
    /// - Throws: `EADDRINUSE` when somebody listens there, `ENOTSOCK` when the file is something else, which is left alone.
    public static func listen(path: String, mode: UInt32) throws(SystemError) -> FileDescriptor {
        let place = "listen on unix:\(path)"
        guard let address = SocketAddress(path: path) else { throw SystemError(place, code: ENAMETOOLONG) }
        try removeStale(path, address, place)
        let number = socket(AF_UNIX, Self.stream | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw SystemError(place) }
        let descriptor = FileDescriptor(owning: number)
        descriptor.closeInForks()
        let failure = unsafe address.errno { unsafe bind(number, $0, $1) }
        guard failure == 0 else { throw SystemError(place, code: failure) }
        // Nobody can connect before the socket listens, so nobody can by wider permissions.
        guard unsafe chmod(path, mode) == 0, Glibc.listen(number, SOMAXCONN) == 0 else {
            let failure = SystemError(place)
            unsafe unlink(path)
            throw failure
        }
        return descriptor
    }

    /// Removes the file of a socket at which nobody listens.
    private static func removeStale(_ path: String, _ address: SocketAddress, _ place: String) throws(SystemError) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw SystemError(place)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw SystemError("\(place), where a file is", code: ENOTSOCK) }
        let number = socket(AF_UNIX, Self.stream | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw SystemError(place) }
        let probe = FileDescriptor(owning: number)
        let failure = unsafe address.errno { unsafe Glibc.connect(probe.number, $0, $1) }
        // Any other error leaves it open whether somebody listens; with EAGAIN, as many wait to be accepted as may.
        guard failure == ECONNREFUSED else { throw SystemError(place, code: failure == 0 || failure == EAGAIN ? EADDRINUSE : failure) }
        guard unsafe unlink(path) == 0 || errno == ENOENT else { throw SystemError(place) }
    }
}

/// The file of a listening Unix socket, which is removed with the last reference, unless another file has come in its place.
///
/// May be used from any thread.
public final class SocketFile: Sendable {
    private let path: String
    /// While it is open, no other file gets the number of its inode.
    private let file: FileDescriptor

    /// Takes over the file at a path, which was just made.
    public init(_ path: String) throws(SystemError) {
        file = try FileDescriptor.open(path, CLINUX_O_PATH | O_NOFOLLOW)
        self.path = path
    }

    deinit { if isThere { unsafe unlink(path) } }

    private var isThere: Bool {
        var status = stat()
        guard unsafe lstat(path, &status) == 0, let own = try? file.status() else { return false }
        return status.st_dev == own.st_dev && status.st_ino == own.st_ino
    }

    /// Changes the permissions, at most `0o777`.
    public func set(mode: UInt32) throws(SystemError) {
        guard isThere else { throw SystemError("chmod \(path)", code: ENOENT) }
        guard unsafe chmod(path, mode) == 0 else { throw SystemError("chmod \(path)") }
    }
}
