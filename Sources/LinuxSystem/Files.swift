public import Glibc

/// Reading and writing at explicit offsets, and information about files.
extension FileDescriptor {
    /// Writes all of `bytes` at `offset`, with as many calls as needed.
    public func writeAll(_ bytes: RawSpan, at offset: Int) throws(SystemError) {
        var written = 0
        while written < bytes.byteCount {
            let rest = bytes.extracting(written...)
            let count = unsafe rest.withUnsafeBytes { buffer in
                retrying { unsafe pwrite(number, buffer.baseAddress, buffer.count, off_t(offset + written)) }
            }
            guard count > 0 else { throw SystemError("write", code: count == 0 ? EIO : errno) }
            written += count
        }
    }

    /// Reads `count` bytes at `offset`, fewer at the end of the file.
    ///
    /// For a `count` of more than 64 KiB, allocates no more memory than the file has bytes.
    public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let room = try present(count, at: offset)
        // All empty arrays share one storage, into which the count would be written here.
        guard room > 0 else { return [] }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, filled in
            filled = unsafe readAll(into: UnsafeMutableRawBufferPointer(buffer), at: offset, &failure)
        }
        if let failure { throw failure }
        return bytes
    }

    /// Reads `count` bytes at `offset` and appends them to `buffer`; fewer at the end of the file.
    ///
    /// For a `count` of more than 64 KiB, allocates no more memory than the file has bytes.
    public func read(_ count: Int, at offset: Int, into buffer: inout ByteBuffer) throws(SystemError) {
        let failure = unsafe try buffer.append(room: try present(count, at: offset)) { room in
            var failure: SystemError?
            return (unsafe readAll(into: room, at: offset, &failure), failure)
        }
        if let failure { throw failure }
    }

    private static let littleRead = 1 << 16

    /// How many of `count` bytes at `offset` the file has; for small counts `count` itself, because reading costs less than asking.
    private func present(_ count: Int, at offset: Int) throws(SystemError) -> Int {
        count <= Self.littleRead ? max(0, count) : min(count, max(0, try size().subtractingReportingOverflow(offset).partialValue))
    }

    /// Reads from `offset` to the end of the file in pieces, in order, and passes each to `body` while that returns true.
    ///
    /// Each piece but the last has a multiple of `unit` bytes.
    public func readPieces(from offset: Int, unit: Int, _ body: ([UInt8]) -> Bool) throws(SystemError) {
        let step = max(1, Self.pieceSize / unit) * unit
        var offset = offset
        while case let piece = try read(step, at: offset), !piece.isEmpty {
            guard body(piece), piece.count == step else { return }
            offset += step
        }
    }

    private static let pieceSize = 1 << 18

    private func readAll(into buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ failure: inout SystemError?) -> Int {
        var filled = 0
        while filled < buffer.count {
            let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            let count = retrying { unsafe pread(number, room.baseAddress, room.count, off_t(offset + filled)) }
            if count < 0 { failure = SystemError("read") }
            if count <= 0 { break }
            filled += count
        }
        return filled
    }

    /// Shortens the file, or extends it with a hole.
    public func truncate(to size: Int) throws(SystemError) {
        guard retrying({ ftruncate(number, off_t(size)) }) == 0 else { throw SystemError("ftruncate") }
    }

    /// Gives the first `count` bytes their blocks, so that writing them cannot fail because the disk, or the memory behind it, is full.
    public func allocate(_ count: Int) throws(SystemError) {
        let error = posix_fallocate(number, 0, off_t(count))
        guard error == 0 else { throw SystemError("fallocate", code: error) }
    }

    /// The file's size, in bytes.
    public func size() throws(SystemError) -> Int { Int(try status().st_size) }

    /// The number of names that the file has.
    public func linkCount() throws(SystemError) -> Int { Int(try status().st_nlink) }

    /// The user id of the owner.
    public func owner() throws(SystemError) -> uid_t { try status().st_uid }

    /// The file's identity.
    public func identity() throws(SystemError) -> FileIdentity { FileIdentity(try status()) }

    func status() throws(SystemError) -> stat {
        var status = stat()
        guard unsafe fstat(number, &status) == 0 else { throw SystemError("fstat") }
        return status
    }

    /// Opens a regular file close-on-exec; a link at the path is not followed.
    ///
    /// Never blocks: a pipe, device, socket or folder at the path is an error (`EINVAL`, or the error of the system call).
    public static func openFile(
        _ path: String, _ flags: Int32, mode: mode_t = 0o644, in directory: Int32 = AT_FDCWD
    ) throws(SystemError) -> FileDescriptor {
        let file = try open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode: mode, in: directory)
        guard try file.status().st_mode & S_IFMT == S_IFREG else {
            throw SystemError("open \(path), which is no regular file", code: EINVAL)
        }
        return file
    }

    /// Advises the system to drop the file from its page cache, so that the next read comes from the disk.
    public func forgetCached() { posix_fadvise(number, 0, 0, POSIX_FADV_DONTNEED) }

    /// Locks the file exclusively until it is closed (`flock`); returns false when somebody else has locked it.
    public func lock() -> Bool { flock(number, LOCK_EX | LOCK_NB) == 0 }

    /// True when the file is locked by ``lock()`` through another descriptor now, as another process does.
    public var isLockedElsewhere: Bool {
        guard flock(number, LOCK_SH | LOCK_NB) == 0 else { return errno == EWOULDBLOCK }
        flock(number, LOCK_UN)
        return false
    }
}

/// The identity of a file independent of its names: device and inode, unique as long as the file exists.
public struct FileIdentity: Hashable, Sendable {
    private let device: UInt
    private let inode: UInt

    init(_ status: stat) { (device, inode) = (status.st_dev, status.st_ino) }

    /// The device and the inode in hexadecimal: `fe01-1a2b`.
    public var text: String { "\(String(device, radix: 16))-\(String(inode, radix: 16))" }

    /// The identity of the file at `path`, relative to `directory` if one is given; links are followed.
    public init(of path: String, in directory: Int32 = AT_FDCWD) throws(SystemError) {
        var status = stat()
        let result = unsafe path.withCString { unsafe fstatat(directory, $0, &status, 0) }
        guard result == 0 else { throw SystemError("stat \(path)") }
        self.init(status)
    }
}
