public import Glibc

/// The names in a folder, sorted; links are files, wherever they lead.
public struct FolderListing: Sendable {
    /// The folders in it.
    public private(set) var folders: [String] = []
    /// Everything else in it.
    public private(set) var files: [String] = []

    /// Reads the folder at `path`, relative to `directory` when there is one; a listing that breaks off is an error.
    public init(_ path: String, in directory: Int32 = AT_FDCWD) throws(SystemError) {
        let number = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY, in: directory).release()
        guard let stream = unsafe fdopendir(number) else {
            let error = SystemError("read \(path)")
            close(number)
            throw error
        }
        defer { unsafe closedir(stream) }
        errno = 0
        while let entry = unsafe readdir(stream) {
            try unsafe add(entry, in: number)
            errno = 0
        }
        guard errno == 0 else { throw SystemError("read \(path)") }
        folders.sort()
        files.sort()
    }

    /// Only as much of the entry is there as its name takes, so it is read in place.
    private mutating func add(_ entry: UnsafeMutablePointer<dirent>, in folder: Int32) throws(SystemError) {
        guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { return }
        let name = unsafe String(cString: (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self))
        if name == "." || name == ".." { return }
        if try Self.isFolder(unsafe entry.pointee.d_type, name, in: folder) { folders.append(name) } else { files.append(name) }
    }

    /// Some file systems do not say what an entry is.
    private static func isFolder(_ type: UInt8, _ name: String, in folder: Int32) throws(SystemError) -> Bool {
        if Int(type) != Int(DT_UNKNOWN) { return Int(type) == Int(DT_DIR) }
        return try FileStatus(of: name, in: folder)?.kind == .folder
    }
}

/// What an inode says of a file, links not followed.
public struct FileStatus: Sendable, Equatable {
    public enum Kind: Sendable {
        case regular, folder
        /// A link, pipe, socket or device.
        case special
    }

    public let kind: Kind
    /// True for a symbolic link.
    public let isLink: Bool
    /// In bytes.
    public let size: Int
    /// When it was last written, in Unix nanoseconds, held to what those can say.
    public let modifiedAt: Int64

    /// Looks at the file at `path`, relative to `directory` when there is one; nil when there is none.
    public init?(of path: String, in directory: Int32 = AT_FDCWD) throws(SystemError) {
        var status = stat()
        guard unsafe fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            if errno == ENOENT { return nil }
            throw SystemError("stat \(path)")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: kind = .regular
        case S_IFDIR: kind = .folder
        default: kind = .special
        }
        isLink = status.st_mode & S_IFMT == S_IFLNK
        size = Int(status.st_size)
        modifiedAt = status.st_mtim.inNanoseconds
    }
}
