public import Glibc

/// The names in a folder, sorted; links count as files, whatever their target.
public struct FolderListing: Sendable {
    /// The names of folders.
    public private(set) var folders: [String] = []
    /// The names of everything else.
    public private(set) var files: [String] = []

    /// Reads the folder at `path`, relative to `directory` if one is given; throws when the listing cannot be completed.
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

    /// The entry is read in place, because its memory is only as long as its name requires.
    private mutating func add(_ entry: UnsafeMutablePointer<dirent>, in folder: Int32) throws(SystemError) {
        guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { return }
        let name = unsafe String(cString: (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: CChar.self))
        if name == "." || name == ".." { return }
        if try Self.isFolder(unsafe entry.pointee.d_type, name, in: folder) { folders.append(name) } else { files.append(name) }
    }

    /// Asks for the file's status where the file system does not report the type of an entry.
    private static func isFolder(_ type: UInt8, _ name: String, in folder: Int32) throws(SystemError) -> Bool {
        if Int(type) != Int(DT_UNKNOWN) { return Int(type) == Int(DT_DIR) }
        return try FileStatus(of: name, in: folder)?.kind == .folder
    }
}

/// The kind, size and time of a file; links are not followed.
public struct FileStatus: Sendable, Equatable {
    /// The kind of a file, with everything but regular files and folders taken together.
    public enum Kind: Sendable {
        case regular, folder
        /// A link, pipe, socket or device.
        case special
    }

    /// The kind of the file itself; a link is special, whatever its target.
    public let kind: Kind
    /// True for a symbolic link.
    public let isLink: Bool
    /// The size in bytes.
    public let size: Int
    /// The time of the last write, in Unix nanoseconds, clamped to the range of `Int64`.
    public let modifiedAt: Int64

    /// Reads the status of the file at `path`, relative to `directory` if one is given; nil when there is none.
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
