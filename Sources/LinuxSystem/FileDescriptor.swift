import CForkGuard
public import Glibc

/// An open descriptor that is closed when its owner is destroyed; one with the number -1 stands for none.
public struct FileDescriptor: ~Copyable, Sendable {
    /// The kernel's number; borrowed, valid while this value lives.
    public let number: Int32

    /// Takes ownership of an open descriptor.
    public init(owning number: Int32) { self.number = number }

    deinit {
        guard number >= 0 else { return }
        fork_guard_remove(number)
        close(number)
    }

    /// Has the descriptor closed in children that a library forks, which would keep a port or a lock taken.
    public func closeInForks() { fork_guard_add(number) }

    /// Releases ownership of the descriptor without closing it.
    public consuming func release() -> Int32 {
        let number = self.number
        fork_guard_remove(number)
        discard self
        return number
    }

    /// Another descriptor of the same open file or socket, close-on-exec.
    public func duplicate() throws(SystemError) -> FileDescriptor {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw SystemError("dup") }
        return FileDescriptor(owning: copy)
    }

    /// Opens `path` close-on-exec, relative to `directory` when there is one.
    public static func open(
        _ path: String, _ flags: Int32, mode: mode_t = 0o644, in directory: Int32 = AT_FDCWD
    ) throws(SystemError) -> FileDescriptor {
        let number = retrying { unsafe openat(directory, path, flags | O_CLOEXEC, mode) }
        guard number >= 0 else { throw SystemError("open \(path)") }
        return FileDescriptor(owning: number)
    }

    /// Writes all of `bytes`, with as many calls as needed.
    public func writeAll(_ bytes: RawSpan) throws(SystemError) {
        var written = 0
        while written < bytes.byteCount {
            let rest = bytes.extracting(written...)
            let count = unsafe rest.withUnsafeBytes { buffer in
                retrying { unsafe write(number, buffer.baseAddress, buffer.count) }
            }
            guard count > 0 else { throw count < 0 ? SystemError("write") : SystemError("write", code: EIO) }
            written += count
        }
    }

    /// Reads to the end of the file; fails with `EFBIG` beyond `limit` bytes.
    public func readAll(limit: Int) throws(SystemError) -> [UInt8] {
        var result: [UInt8] = []
        // Growing step by step would leave pieces of all sizes to the allocator, which keeps them.
        if let size = try? size() { result.reserveCapacity(max(0, min(size, limit))) }
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { buffer in
                retrying { unsafe Glibc.read(number, buffer.baseAddress, buffer.count) }
            }
            guard count >= 0 else { throw SystemError("read") }
            if count == 0 { return result }
            result.append(contentsOf: chunk[..<count])
            guard result.count <= limit else { throw SystemError("read", code: EFBIG) }
        }
    }

    /// Makes the content and the size durable (`fdatasync`).
    public func synchronize() throws(SystemError) { try Self.synchronize(number) }

    /// Makes the content and the size of an open file durable (`fdatasync`); the caller keeps it open.
    public static func synchronize(_ number: Int32) throws(SystemError) {
        guard retrying({ fdatasync(number) }) == 0 else { throw SystemError("fdatasync") }
    }

    /// Makes a directory's entries durable (`fsync`).
    public func synchronizeDirectory() throws(SystemError) {
        guard retrying({ fsync(number) }) == 0 else { throw SystemError("fsync") }
    }
}
