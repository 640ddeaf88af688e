import Glibc

/// An open folder; operations apply to this folder even if its path leads elsewhere by now.
///
/// The descriptor is closed with the last reference. May be used from any thread.
public final class OpenFolder: Sendable {
    /// The path at which it was opened, for messages.
    public let path: String
    private let descriptor: FileDescriptor

    /// The kernel's number; borrowed, valid while this object lives.
    public var number: Int32 { descriptor.number }

    /// Opens the folder at `path`; links are followed.
    public init(_ path: String) throws(SystemError) {
        self.path = path
        descriptor = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    }

    /// Opens a direct subfolder of another folder.
    ///
    /// - Throws: `ELOOP` when the name is a link; links are not followed.
    public init(_ name: String, in parent: OpenFolder) throws(SystemError) {
        path = parent.path(of: name)
        do throws(SystemError) {
            descriptor = try FileDescriptor.open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, in: parent.number)
        } catch {
            // For a link, the system reports only ENOTDIR.
            let isLink = error.code == ENOTDIR && (try? parent.status(of: name))?.isLink == true
            throw isLink ? .link(parent.path(of: name)) : SystemError("open \(parent.path(of: name))", code: error.code)
        }
    }

    /// Opens the folder at a relative path below this one, without following links.
    ///
    /// - Throws: `ELOOP` when a component is a link, `EINVAL` when one is `.` or `..`.
    public func descend(_ relative: String) throws(SystemError) -> OpenFolder {
        var folder = self
        for part in try Self.parts(of: relative) { folder = try OpenFolder(part, in: folder) }
        return folder
    }

    private static func parts(of relative: String) throws(SystemError) -> [String] {
        let parts = relative.pathComponents
        guard !parts.contains(".."), !parts.contains(".") else { throw SystemError("open \(relative)", code: EINVAL) }
        return parts
    }

    /// Returns the path of an entry of this folder, for messages; an empty name gives the folder's own path.
    public func path(of name: String) -> String { name.isEmpty ? path : "\(path)/\(name)" }

    /// The folder's identity.
    public func identity() throws(SystemError) -> FileIdentity { try descriptor.identity() }

    // MARK: Making folders

    /// Creates the folder at `path` and missing parents; each new folder's parent is synced. Links are followed.
    public static func make(_ path: String, mode: FileMode = FileMode(0o755)) throws(SystemError) {
        if try mkdir(path, mode) { return try synchronizeParent(of: path) }
        switch errno {
        case EEXIST:
            var status = stat()
            guard unsafe stat(path, &status) == 0 else { throw SystemError("stat \(path)") }
            guard status.st_mode & S_IFMT == S_IFDIR else { throw SystemError("mkdir \(path)", code: ENOTDIR) }
        case ENOENT:
            let parent = parent(of: path)
            guard parent != path, parent != "." else { throw SystemError("mkdir \(path)", code: ENOENT) }
            try make(parent, mode: mode)
            if try mkdir(path, mode) { return try synchronizeParent(of: path) }
            guard errno == EEXIST else { throw SystemError("mkdir \(path)") }
        default: throw SystemError("mkdir \(path)")
        }
    }

    private static func mkdir(_ path: String, _ mode: FileMode) throws(SystemError) -> Bool {
        guard unsafe Glibc.mkdir(path, mode.bits) == 0 else { return false }
        if mode.isExact { try OpenFolder(path).set(mode) }
        return true
    }

    /// Opens the folder at a relative path below this one, creating missing folders; links are not followed.
    ///
    /// - Parameter isSynced: whether the parent of each new folder is synced at once.
    public func make(_ relative: String, mode: FileMode, isSynced: Bool = true) throws(SystemError) -> OpenFolder {
        var folder = self
        for part in try Self.parts(of: relative) { folder = try folder.makeChild(part, mode, isSynced) }
        return folder
    }

    private func makeChild(_ name: String, _ mode: FileMode, _ isSynced: Bool) throws(SystemError) -> OpenFolder {
        do throws(SystemError) { return try OpenFolder(name, in: self) } catch { guard error.code == ENOENT else { throw error } }
        guard unsafe mkdirat(number, name, mode.bits) == 0 || errno == EEXIST else { throw SystemError("mkdir \(path(of: name))") }
        let made = try OpenFolder(name, in: self)
        if mode.isExact { try made.set(mode) }
        if isSynced { try synchronize() }
        return made
    }

    private func set(_ mode: FileMode) throws(SystemError) {
        do throws(SystemError) { try descriptor.set(mode) } catch { throw SystemError("chmod \(path)", code: error.code) }
    }

    /// The folder that contains the last component of a path.
    public static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Makes the folder's name at `path` durable, by syncing its parent.
    public static func synchronizeParent(of path: String) throws(SystemError) {
        do throws(SystemError) {
            try FileDescriptor.open(parent(of: path), O_RDONLY | O_DIRECTORY).synchronizeDirectory()
        } catch {
            guard error.code == EACCES else { throw error }
            // A parent that we may write but not read cannot be opened and synced, but its file system can be synced.
            try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY).synchronizeFileSystem()
        }
    }

    // MARK: Files

    /// Opens a regular file in this folder; see ``FileDescriptor/openFile(_:_:mode:in:)``.
    public func open(_ name: String, _ flags: Int32, mode: UInt32 = 0o644) throws(SystemError) -> FileDescriptor {
        do throws(SystemError) {
            return try FileDescriptor.openFile(name, flags, mode: mode, in: number)
        } catch {
            // Adds the folder's path to the message.
            throw error.code == ELOOP
                ? .link(path(of: name))
                : SystemError(
                    error.operation.replacing("open \(name)", with: "open \(path(of: name))", maxReplacements: 1), code: error.code)
        }
    }

    /// The names in this folder without `.` and `..`, unsorted.
    public func names() throws(SystemError) -> [String] {
        let listing = try list()
        return listing.folders + listing.files
    }

    /// The folders and files in this folder.
    public func list() throws(SystemError) -> FolderListing {
        do throws(SystemError) { return try FolderListing(".", in: number) } catch {
            throw SystemError("read \(path)", code: error.code)
        }
    }

    /// The status of an entry, links not followed; nil when there is no such entry.
    public func status(of name: String) throws(SystemError) -> FileStatus? { try FileStatus(of: name, in: number) }

    /// Removes a file; a missing file is no error.
    public func remove(_ name: String) throws(SystemError) {
        guard unsafe unlinkat(number, name, 0) == 0 || errno == ENOENT else { throw SystemError("unlink \(path(of: name))") }
    }

    /// Removes an empty folder; a missing folder is no error.
    public func removeFolder(_ name: String) throws(SystemError) {
        guard unsafe unlinkat(number, name, AT_REMOVEDIR) == 0 || errno == ENOENT else { throw SystemError("rmdir \(path(of: name))") }
    }

    /// Renames an entry, within this folder or to another one on the same file system; replaces an existing file of the new name.
    public func rename(_ name: String, to new: String, in other: OpenFolder? = nil) throws(SystemError) {
        guard unsafe renameat(number, name, (other ?? self).number, new) == 0 else { throw SystemError("rename \(path(of: name))") }
    }

    /// Makes the folder's entries durable.
    public func synchronize() throws(SystemError) { try descriptor.synchronizeDirectory() }

    /// Writes a small file, syncs it and removes it again, to find out whether that is possible.
    public func tryWriting() throws(SystemError) {
        let name = ".probe-\(getpid())"
        // One that a killed process has left.
        try? remove(name)
        let file = try open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        do throws(SystemError) {
            try unsafe file.writeAll(Array("probe\n".utf8).span.bytes)
            try file.synchronize()
        } catch {
            try? remove(name)
            throw error
        }
        try remove(name)
    }

    /// Locks the folder exclusively until this object is destroyed; returns false when somebody else has locked it, also within
    /// this process.
    public func lock() -> Bool { descriptor.lock() }

    // MARK: Surroundings

    /// The size of the file system, and the part of it that we may still use, in bytes; both are 0 where the file system does not tell, and
    /// at most 2^60.
    public func space() throws(SystemError) -> (total: Int, available: Int) {
        var status = statvfs()
        guard unsafe fstatvfs(number, &status) == 0 else { throw SystemError("statvfs \(path)") }
        return (Self.bytes(status.f_blocks, of: status.f_frsize), Self.bytes(status.f_bavail, of: status.f_frsize))
    }

    /// The bytes of blocks; some file systems claim to have nearly 2^64, with which nothing can be added.
    static func bytes(_ blocks: UInt, of size: UInt) -> Int {
        let (product, isTooLarge) = blocks.multipliedReportingOverflow(by: size)
        return isTooLarge ? 1 << 60 : Int(min(product, 1 << 60))
    }

    /// Switches the effective user of the process from root to the folder's owner, so that the owner can write the files that are
    /// created.
    ///
    /// It applies to the whole process, so it is only for commands.
    public func actAsOwner() throws(SystemError) {
        var status = stat()
        guard geteuid() == 0, unsafe fstat(number, &status) == 0, status.st_uid != 0 else { return }
        // Root's supplementary groups would grant access that the owner does not have.
        guard setgroups(0, nil) == 0, setegid(status.st_gid) == 0, seteuid(status.st_uid) == 0 else {
            throw SystemError("seteuid \(status.st_uid)")
        }
    }
}
