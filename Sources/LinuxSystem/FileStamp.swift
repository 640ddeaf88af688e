import Glibc

/// Identifies a state of a file without reading it: by device, inode, size, and the time of the last change of content, owner or
/// mode.
///
/// Links are followed, so that a replaced link target is noticed, as with secrets in Kubernetes.
public struct FileStamp: Equatable, Sendable {
    private let device: UInt
    private let inode: UInt
    private let size: Int
    private let seconds: Int
    private let nanoseconds: Int

    /// The state of the file at `path`; nil when there is none.
    public init?(of path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    /// The state of an open file.
    public init(of file: borrowing FileDescriptor) throws(SystemError) { self.init(try file.status()) }

    private init(_ status: stat) {
        (device, inode, size) = (status.st_dev, status.st_ino, status.st_size)
        (seconds, nanoseconds) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
    }
}
