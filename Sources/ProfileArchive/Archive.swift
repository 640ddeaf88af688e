import Glibc
public import LinuxSystem

/// Why a profile could not be archived.
public enum ArchiveError: Error {
    /// A file of the same name exists with other content.
    case conflict(path: String)
    /// The profile's files would exceed the limit of the archive.
    case tooLarge
    /// A folder or file of the archive is a link; links are not followed.
    case link(SystemError)
    /// A system call failed, for example because the disk is full.
    case system(SystemError)
    /// The archiving was aborted.
    case aborted

    /// The error of a file or folder below the archive's root.
    init(below error: SystemError) { self = error.code == ELOOP ? .link(error) : .system(error) }
}

/// A directory of profiles by tenant, service and hour; see ``ArchivedFiles`` for the names.
///
/// Links in the path of the root are followed, below the root they are not.
public struct Archive: Sendable {
    /// The path of the root folder.
    public let directory: String
    /// The open folder that the path is relative to; nil for an independent path.
    private let base: OpenFolder?
    let modes: ArchiveModes

    /// Describes an archive; the directory is not created and need not exist.
    ///
    /// - Parameter base: an open folder that contains the directory; it is used even if its path leads elsewhere by now.
    public init(_ directory: String, in base: OpenFolder? = nil, modes: ArchiveModes = ArchiveModes()) {
        (self.directory, self.base, self.modes) = (directory, base, modes)
    }

    /// Opens the root folder.
    public func open() throws(SystemError) -> OpenFolder {
        guard let base else { return try OpenFolder(directory) }
        return try base.descend(directory)
    }

    /// Opens the root folder, and creates it and missing parents, each synced into its parent.
    public func make() throws(SystemError) -> OpenFolder {
        if let base { return try base.make(directory, mode: modes.directory) }
        try OpenFolder.make(directory, mode: modes.directory)
        return try OpenFolder(directory)
    }

    /// Makes the name of the root folder durable.
    func synchronizeName() throws(SystemError) {
        guard let base else { return try OpenFolder.synchronizeParent(of: directory) }
        let parent = OpenFolder.parent(of: directory)
        try (parent == "." ? base : base.descend(parent)).synchronize()
    }

    /// A folder and its parents up to the root: the folders to sync so that files in the folder can be found after a crash.
    static func lineage(of relative: String) -> [String] {
        var folders = [""]
        for part in relative.split(separator: "/") { folders.append(join(folders[folders.count - 1], String(part))) }
        return folders
    }

    /// The path of an entry of a folder, relative to the archive.
    public static func join(_ folder: String, _ name: String) -> String { folder.isEmpty ? name : "\(folder)/\(name)" }
}

extension OpenFolder {
    // MARK: Removing files, for the root of an archive

    /// Removes files from a folder of the archive, and then the folder and its parents if they are empty.
    ///
    /// A missing file or folder is no error.
    public func removeArchived(_ files: [String], from relative: String) throws(SystemError) {
        do throws(SystemError) {
            let folder = try descend(relative)
            for file in files { try folder.remove(file) }
        } catch { guard error.code == ENOENT else { throw error } }
        removeEmpty(relative)
    }

    /// Removes a folder of the archive and its parents, as far as they are empty.
    public func removeEmpty(_ relative: String) {
        var relative = relative
        do throws(SystemError) {
            while !relative.isEmpty {
                let slash = relative.lastIndex(of: "/")
                let parent = slash.map { String(relative[..<$0]) } ?? ""
                try descend(parent).removeFolder(slash.map { String(relative[relative.index(after: $0)...]) } ?? relative)
                relative = parent
            }
        } catch {
            // The folder is not empty.
        }
    }

    /// Removes files that a killed process left half-written, from the given names; files that cannot be removed stay.
    public func removeLeftovers(among files: [String]) {
        for file in files where TemporaryName.isLeftover(file) { try? remove(file) }
    }
}

/// A walk through all folders of an archive, in the order of their names; links are not followed.
public struct ArchiveWalk {
    private let root: OpenFolder
    private var rest = [""]

    /// Begins at the root folder.
    public init(_ root: OpenFolder) { self.root = root }

    /// One visited folder.
    public struct Step {
        /// The path relative to the archive; empty for the root.
        public let relative: String
        /// The open folder, closed with the last reference to it.
        public let folder: OpenFolder
        /// The names of the files in it.
        public let files: [String]
    }

    /// Returns the next folder; nil at the end.
    ///
    /// - Parameter failed: called with the error of a folder that cannot be read; such folders, and folders removed meanwhile, are
    ///   skipped.
    public mutating func next(failed: (SystemError) -> Void = { _ in }) -> Step? {
        while let relative = rest.popLast() {
            do throws(SystemError) {
                let folder = try root.descend(relative)
                let listing = try folder.list()
                rest += listing.folders.reversed().map { Archive.join(relative, $0) }
                return Step(relative: relative, folder: folder, files: listing.files)
            } catch { if error.code != ENOENT { failed(error) } }
        }
        return nil
    }
}
