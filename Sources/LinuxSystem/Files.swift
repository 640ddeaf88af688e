public import Glibc

/// Files at explicit offsets, and what there is about them.
extension FileDescriptor {
    /// Writes all of `bytes` at `offset`, however many calls that takes.
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

    /// Reads `count` bytes at `offset`, fewer where the file ends.
    ///
    /// Memory is taken for what the file has, however many bytes are asked for.
    public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let room = try present(count, at: offset)
        // All empty arrays are one, of which the count would be written here.
        guard room > 0 else { return [] }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, filled in
            filled = unsafe readAll(into: UnsafeMutableRawBufferPointer(buffer), at: offset, &failure)
        }
        if let failure { throw failure }
        return bytes
    }

    /// Reads `count` bytes at `offset` to the end of `buffer`, fewer where the file ends.
    ///
    /// Memory is taken for what the file has, however many bytes are asked for.
    public func read(_ count: Int, at offset: Int, into buffer: inout ByteBuffer) throws(SystemError) {
        let failure = unsafe try buffer.append(room: try present(count, at: offset)) { room in
            var failure: SystemError?
            return (unsafe readAll(into: room, at: offset, &failure), failure)
        }
        if let failure { throw failure }
    }

    private static let littleRead = 1 << 16

    /// How many of `count` bytes at `offset` the file has; all of a few, which cost less than asking.
    private func present(_ count: Int, at offset: Int) throws(SystemError) -> Int {
        count <= Self.littleRead ? max(0, count) : min(count, max(0, try size().subtractingReportingOverflow(offset).partialValue))
    }

    /// Lends what follows `offset` up to the end of the file, a piece at a time and in order, while `body` answers true.
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

    /// Cuts the file, or makes it longer by a hole.
    public func truncate(to size: Int) throws(SystemError) {
        guard retrying({ ftruncate(number, off_t(size)) }) == 0 else { throw SystemError("ftruncate") }
    }

    /// Asks for the file's size, in bytes.
    public func size() throws(SystemError) -> Int { Int(try status().st_size) }

    /// The user it belongs to.
    public func owner() throws(SystemError) -> uid_t { try status().st_uid }

    /// Which file it is.
    public func identity() throws(SystemError) -> FileIdentity { FileIdentity(try status()) }

    func status() throws(SystemError) -> stat {
        var status = stat()
        guard unsafe fstat(number, &status) == 0 else { throw SystemError("fstat") }
        return status
    }

    /// Opens a regular file close-on-exec, without following a link in its place.
    ///
    /// Never waits: a pipe, a device, a socket or a folder of that name is an error (`EINVAL`, or what the system says of it).
    public static func openFile(
        _ path: String, _ flags: Int32, mode: mode_t = 0o644, in directory: Int32 = AT_FDCWD
    ) throws(SystemError) -> FileDescriptor {
        let file = try open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode: mode, in: directory)
        guard try file.status().st_mode & S_IFMT == S_IFREG else {
            throw SystemError("open \(path), which is no regular file", code: EINVAL)
        }
        return file
    }

    /// Forgets what the system holds of the file in memory, so that the next read asks the disk; only advice.
    public func forgetCached() { posix_fadvise(number, 0, 0, POSIX_FADV_DONTNEED) }

    /// Takes the file for this process alone until it is closed; false when another one has it.
    public func lock() -> Bool { flock(number, LOCK_EX | LOCK_NB) == 0 }

    /// True when another process has taken the file by ``lock()`` just now.
    public var isLockedElsewhere: Bool {
        guard flock(number, LOCK_SH | LOCK_NB) == 0 else { return errno == EWOULDBLOCK }
        flock(number, LOCK_UN)
        return false
    }
}

/// Which file something is, whatever its names are: the same on one file system as long as the file is there.
public struct FileIdentity: Hashable, Sendable {
    private let device: UInt
    private let inode: UInt

    init(_ status: stat) { (device, inode) = (status.st_dev, status.st_ino) }

    /// That of what `path` leads to, links followed, relative to `directory` when there is one.
    public init(of path: String, in directory: Int32 = AT_FDCWD) throws(SystemError) {
        var status = stat()
        guard unsafe fstatat(directory, path, &status, 0) == 0 else { throw SystemError("stat \(path)") }
        self.init(status)
    }
}
