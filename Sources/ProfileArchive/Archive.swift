import Glibc
public import LinuxSystem

/// Why a profile could not be archived.
public enum ArchiveError: Error {
    /// A file of that name is there, with other bytes.
    case conflict(path: String)
    /// Its files would be larger than the archive may be.
    case tooLarge
    /// The disk is full, say.
    case system(SystemError)
    /// The gateway does not wait any longer.
    case aborted
}

/// A directory of profiles, by tenant, service and hour; ``ArchivedFiles`` has the names.
public struct Archive: Sendable {
    /// The folder that holds all of it.
    public let directory: String
    /// What the directory is relative to; nil where it is a path of its own.
    private let base: OpenFolder?

    /// Makes nothing; the directory need not be there.
    ///
    /// - Parameter base: an open folder that the directory is in, which is used wherever its path leads by now.
    public init(_ directory: String, in base: OpenFolder? = nil) { (self.directory, self.base) = (directory, base) }

    /// What paths of the archive are relative to, for the system.
    var root: Int32 { base?.number ?? AT_FDCWD }

    /// The path of what `relative` names inside the directory, or of the directory itself.
    public func path(_ relative: String) -> String { relative.isEmpty ? directory : "\(directory)/\(relative)" }

    /// The path of a file in a folder inside the directory.
    public func path(_ file: String, in folder: String) -> String { path(folder.isEmpty ? file : "\(folder)/\(file)") }

    /// A folder, its parents up to the archive's own directory, and the folder that names that one: what must be synced before
    /// anything in the folder is sure to be found after a crash.
    func lineage(of relative: String) -> [String] {
        var folders = [OpenFolder.parent(of: directory), directory]
        for part in relative.split(separator: "/") { folders.append("\(folders[folders.count - 1])/\(part)") }
        return folders
    }

    /// Makes a folder and its parents, each synced into its own parent.
    public func makeFolder(_ relative: String) throws(SystemError) { try OpenFolder.make(path(relative), in: root) }

    /// Looks at a file in a folder, or at the folder where the file has no name; nil when there is none.
    public func status(of file: String, in folder: String) throws(SystemError) -> FileStatus? {
        try FileStatus(of: file.isEmpty ? path(folder) : path(file, in: folder), in: root)
    }

    // MARK: Out of it

    /// Removes files from a folder, and then the folder and its parents inside the directory where nothing is left.
    ///
    /// A file that is gone already is no error.
    public func remove(_ files: [String], from folder: String) throws(SystemError) {
        for file in files {
            let path = path(file, in: folder)
            guard unsafe unlinkat(root, path, 0) == 0 || errno == ENOENT else { throw SystemError("remove \(path)") }
        }
        var folder = folder[...]
        while !folder.isEmpty, unsafe unlinkat(root, path(String(folder)), AT_REMOVEDIR) == 0 || errno == ENOENT {
            folder = folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)]
        }
    }

    /// Visits every folder of the archive with the names of its files, in the order of the names, until `visit` answers false.
    ///
    /// - Parameter failed: told of a folder that cannot be read; it is passed over.
    public func walk(failed: (SystemError) -> Void = { _ in }, _ visit: (_ folder: String, _ files: [String]) -> Bool) {
        var rest = [""]
        while let folder = rest.popLast() {
            do throws(SystemError) {
                let listing = try FolderListing(path(folder), in: root)
                guard visit(folder, listing.files) else { return }
                rest += listing.folders.reversed().map { folder.isEmpty ? $0 : "\(folder)/\($0)" }
            } catch { if error.code != ENOENT { failed(error) } }
        }
    }

    /// Removes what a process that was killed left half-written.
    ///
    /// - Parameter goesOn: asked before each folder.
    public func removeLeftovers(while goesOn: () -> Bool) {
        walk { folder, files in
            removeLeftovers(among: files, in: folder)
            return goesOn()
        }
    }

    /// Removes those of a folder's files that a process that was killed left half-written.
    public func removeLeftovers(among files: [String], in folder: String) {
        for file in files where TemporaryName.isLeftover(file) { unsafe unlinkat(root, path(file, in: folder), 0) }
    }
}
