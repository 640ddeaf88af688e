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
    public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = unsafe readAll(into: UnsafeMutableRawBufferPointer(buffer), at: offset, &failure)
        }
        if let failure { throw failure }
        return bytes
    }

    /// Reads `count` bytes at `offset` to the end of `buffer`, fewer where the file ends.
    public func read(_ count: Int, at offset: Int, into buffer: inout ByteBuffer) throws(SystemError) {
        let failure = unsafe try buffer.append(room: count) { room in
            var failure: SystemError?
            return (unsafe readAll(into: room, at: offset, &failure), failure)
        }
        if let failure { throw failure }
    }

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

    /// The file's size in bytes.
    public var size: Int {
        var status = stat()
        return unsafe fstat(number, &status) == 0 ? Int(status.st_size) : 0
    }

    /// Takes the file for this process alone until it is closed; false when another one has it.
    public func lock() -> Bool { flock(number, LOCK_EX | LOCK_NB) == 0 }

    /// True when another process has taken the file by ``lock()`` just now.
    public var isLockedElsewhere: Bool {
        guard flock(number, LOCK_SH | LOCK_NB) == 0 else { return errno == EWOULDBLOCK }
        flock(number, LOCK_UN)
        return false
    }
}

/// A folder on disk, by path.
public struct Folder: Sendable {
    public let path: String

    public init(_ path: String) { self.path = path }

    /// Makes the folder and its parents.
    ///
    /// - Parameter mode: of the folders that are made.
    public func make(mode: mode_t = 0o755) throws(SystemError) {
        if unsafe mkdir(path, mode) == 0 { return }
        if errno == EEXIST {
            var status = stat()
            guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
                throw SystemError("mkdir \(path)", code: ENOTDIR)
            }
            return
        }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else { throw SystemError("mkdir \(path)") }
        try Folder(String(path[..<slash])).make(mode: mode)
        guard unsafe mkdir(path, mode) == 0 || errno == EEXIST else { throw SystemError("mkdir \(path)") }
    }

    /// The names in it, but `.` and `..`, in no order.
    public func names() throws(SystemError) -> [String] {
        guard let folder = unsafe opendir(path) else { throw SystemError("open \(path)") }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe String(cString: UnsafeRawPointer(pointer).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Acts as this folder's owner from here on, where root does: the owner could not write what root makes there.
    ///
    /// The whole process does so, so this is for commands.
    public func actAsOwner() throws(SystemError) {
        var status = stat()
        guard geteuid() == 0, unsafe stat(path, &status) == 0, status.st_uid != 0 else { return }
        guard setegid(status.st_gid) == 0, seteuid(status.st_uid) == 0 else { throw SystemError("seteuid \(status.st_uid)") }
    }

    /// Makes the entries durable.
    public func synchronize() throws(SystemError) {
        try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY).synchronizeDirectory()
    }

    /// How large its file system is, and how much of that we may still use, in bytes.
    public func space() throws(SystemError) -> (total: Int, available: Int) {
        var status = statvfs()
        guard unsafe statvfs(path, &status) == 0 else { throw SystemError("statvfs \(path)") }
        return (Int(status.f_blocks) * Int(status.f_frsize), Int(status.f_bavail) * Int(status.f_frsize))
    }

    public func path(of name: String) -> String { "\(path)/\(name)" }

    /// Removes one file; one that is not there is no error.
    public func remove(_ name: String) throws(SystemError) {
        guard unsafe unlink(path(of: name)) == 0 || errno == ENOENT else { throw SystemError("unlink \(path(of: name))") }
    }
}
