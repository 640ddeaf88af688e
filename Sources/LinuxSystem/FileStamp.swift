import Glibc

/// What tells one state of a file from another without reading it: which file the path names now, its size, and when it, its
/// owner or its mode was changed.
///
/// Links are followed, so that replacing the target of one, as Kubernetes does with secrets, is seen.
public struct FileStamp: Equatable, Sendable {
    private let device: UInt
    private let inode: UInt
    private let size: Int
    private let seconds: Int
    private let nanoseconds: Int

    /// The state of the file at `path` now; nil when there is none.
    public init?(of path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    /// The state of an open file now.
    public init(of file: borrowing FileDescriptor) throws(SystemError) { self.init(try file.status()) }

    private init(_ status: stat) {
        (device, inode, size) = (status.st_dev, status.st_ino, status.st_size)
        (seconds, nanoseconds) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
    }
}
