import Glibc

/// An open folder on disk: what is done in it is done in this one, wherever its path leads by now.
///
/// The descriptor is closed with the last holder. From any thread.
public final class OpenFolder: Sendable {
    /// What it was opened by, for messages.
    public let path: String
    private let descriptor: FileDescriptor

    /// The kernel's number; borrowed, valid while this object lives.
    public var number: Int32 { descriptor.number }

    /// Opens the folder at `path`; links are followed.
    public init(_ path: String) throws(SystemError) {
        self.path = path
        descriptor = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    }

    /// Opens a folder that is directly in another one.
    ///
    /// - Throws: `ELOOP` for a link of that name, wherever it leads; it is not followed.
    public init(_ name: String, in parent: OpenFolder) throws(SystemError) {
        path = parent.path(of: name)
        do throws(SystemError) {
            descriptor = try FileDescriptor.open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, in: parent.number)
        } catch {
            // The system says of a link only that it is no folder.
            let isLink = error.code == ENOTDIR && (try? parent.status(of: name))?.isLink == true
            throw isLink ? .link(parent.path(of: name)) : SystemError("open \(parent.path(of: name))", code: error.code)
        }
    }

    /// Opens the folder that a relative path leads to from this one, without following a link.
    ///
    /// - Throws: `ELOOP` where a part of the path is a link, `EINVAL` where one would lead up.
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

    public func path(of name: String) -> String { name.isEmpty ? path : "\(path)/\(name)" }

    /// Which folder it is.
    public func identity() throws(SystemError) -> FileIdentity { try descriptor.identity() }

    // MARK: Making folders

    /// Makes the folder at `path` and its parents where they are not there, each of them synced into its own parent; links are
    /// followed.
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

    /// Opens the folder that a relative path leads to from this one, made with its parents where they are not there; no link is
    /// followed.
    ///
    /// - Parameter isSynced: whether each folder that is made is synced into its parent at once.
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

    /// The folder that a path's last component is in.
    public static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Makes the name of the folder at `path` durable.
    public static func synchronizeParent(of path: String) throws(SystemError) {
        do throws(SystemError) {
            try FileDescriptor.open(parent(of: path), O_RDONLY | O_DIRECTORY).synchronizeDirectory()
        } catch {
            guard error.code == EACCES else { throw error }
            // A parent that we may write to and not read cannot be synced alone, but its file system can.
            try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY).synchronizeFileSystem()
        }
    }

    // MARK: Files

    /// Opens a regular file in it; see ``FileDescriptor/openFile(_:_:mode:in:)``.
    public func open(_ name: String, _ flags: Int32, mode: UInt32 = 0o644) throws(SystemError) -> FileDescriptor {
        do throws(SystemError) {
            return try FileDescriptor.openFile(name, flags, mode: mode, in: number)
        } catch {
            // Whoever reads of it wants to know in which folder.
            throw error.code == ELOOP
                ? .link(path(of: name))
                : SystemError(
                    error.operation.replacing("open \(name)", with: "open \(path(of: name))", maxReplacements: 1), code: error.code)
        }
    }

    /// The names in it, but `.` and `..`, in no order.
    public func names() throws(SystemError) -> [String] {
        let listing = try list()
        return listing.folders + listing.files
    }

    /// What is in it.
    public func list() throws(SystemError) -> FolderListing {
        do throws(SystemError) { return try FolderListing(".", in: number) } catch {
            throw SystemError("read \(path)", code: error.code)
        }
    }

    /// What an entry's inode says, links not followed; nil when there is no such entry.
    public func status(of name: String) throws(SystemError) -> FileStatus? { try FileStatus(of: name, in: number) }

    /// Removes one file; one that is not there is no error.
    public func remove(_ name: String) throws(SystemError) {
        guard unsafe unlinkat(number, name, 0) == 0 || errno == ENOENT else { throw SystemError("unlink \(path(of: name))") }
    }

    /// Removes one folder; one that is not there is no error.
    public func removeFolder(_ name: String) throws(SystemError) {
        guard unsafe unlinkat(number, name, AT_REMOVEDIR) == 0 || errno == ENOENT else { throw SystemError("rmdir \(path(of: name))") }
    }

    /// Gives an entry another name, in this folder or in another one of the same file system; what had that name is gone.
    public func rename(_ name: String, to new: String, in other: OpenFolder? = nil) throws(SystemError) {
        guard unsafe renameat(number, name, (other ?? self).number, new) == 0 else { throw SystemError("rename \(path(of: name))") }
    }

    /// Makes the entries durable.
    public func synchronize() throws(SystemError) { try descriptor.synchronizeDirectory() }

    /// Takes the folder for this object alone until it goes; false when another one has it, in this process too.
    public func lock() -> Bool { descriptor.lock() }

    // MARK: Around it

    /// How large its file system is, and how much of that we may still use, in bytes.
    public func space() throws(SystemError) -> (total: Int, available: Int) {
        var status = statvfs()
        guard unsafe fstatvfs(number, &status) == 0 else { throw SystemError("statvfs \(path)") }
        func bytes(_ blocks: fsblkcnt_t) -> Int {
            let (product, isTooLarge) = Int(clamping: blocks).multipliedReportingOverflow(by: Int(clamping: status.f_frsize))
            return isTooLarge ? .max : product
        }
        return (bytes(status.f_blocks), bytes(status.f_bavail))
    }

    /// Acts as this folder's owner from here on, where root does: the owner could not write what root makes there.
    ///
    /// The whole process does so, so this is for commands.
    public func actAsOwner() throws(SystemError) {
        var status = stat()
        guard geteuid() == 0, unsafe fstat(number, &status) == 0, status.st_uid != 0 else { return }
        // Root's groups would open what the owner cannot.
        guard setgroups(0, nil) == 0, setegid(status.st_gid) == 0, seteuid(status.st_uid) == 0 else {
            throw SystemError("seteuid \(status.st_uid)")
        }
    }
}
