import Glibc

/// The names in a folder, sorted; links are files, wherever they lead.
public struct FolderListing: Sendable {
    /// The folders in it.
    public private(set) var folders: [String] = []
    /// Everything else in it.
    public private(set) var files: [String] = []

    /// Reads the folder at `path`.
    public init(_ path: String) throws(SystemError) {
        let number = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY).release()
        guard let stream = unsafe fdopendir(number) else {
            let error = SystemError("read \(path)")
            close(number)
            throw error
        }
        defer { unsafe closedir(stream) }
        errno = 0
        while let entry = unsafe readdir(stream) {
            unsafe add(entry, in: path)
            errno = 0
        }
        guard errno == 0 else { throw SystemError("read \(path)") }
        folders.sort()
        files.sort()
    }

    /// Only as much of the entry is there as its name takes, so it is read in place.
    private mutating func add(_ entry: UnsafeMutablePointer<dirent>, in path: String) {
        guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { return }
        let name = unsafe String(cString: (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self))
        if name == "." || name == ".." { return }
        if Self.isFolder(unsafe entry.pointee.d_type, "\(path)/\(name)") { folders.append(name) } else { files.append(name) }
    }

    /// Some file systems do not say what an entry is.
    private static func isFolder(_ type: UInt8, _ path: String) -> Bool {
        if Int(type) != Int(DT_UNKNOWN) { return Int(type) == Int(DT_DIR) }
        var status = stat()
        return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}

/// What a regular file's inode says about its content.
public struct FileContent: Sendable, Equatable {
    /// In bytes.
    public let size: Int
    /// When it was last written, in Unix nanoseconds.
    public let modifiedAt: Int64

    /// Looks at the file at `path`; nil when there is none, or it is no regular file.
    public init?(of path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        size = status.st_size
        modifiedAt = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    }
}
