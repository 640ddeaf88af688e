import Glibc
public import LinuxSystem

/// Why a profile could not be archived.
public enum ArchiveError: Error {
    /// A file of that name is there, with other bytes.
    case conflict(path: String)
    /// Its files would be larger than the archive may be.
    case tooLarge
    /// A link stands where a folder or a file of the archive would be; it is not followed.
    case link(SystemError)
    /// The disk is full, say.
    case system(SystemError)
    /// The gateway does not wait any longer.
    case aborted

    /// What became of a file or folder below the archive's own one.
    init(below error: SystemError) { self = error.code == ELOOP ? .link(error) : .system(error) }
}

/// A directory of profiles, by tenant, service and hour; ``ArchivedFiles`` has the names.
///
/// Its own path is opened as it is, links followed; below it no link is.
public struct Archive: Sendable {
    /// The folder that holds all of it.
    public let directory: String
    /// What the directory is relative to; nil where it is a path of its own.
    private let base: OpenFolder?
    let modes: ArchiveModes

    /// Makes nothing; the directory need not be there.
    ///
    /// - Parameter base: an open folder that the directory is in, which is used wherever its path leads by now.
    public init(_ directory: String, in base: OpenFolder? = nil, modes: ArchiveModes = ArchiveModes()) {
        (self.directory, self.base, self.modes) = (directory, base, modes)
    }

    /// Opens the archive's own folder.
    public func open() throws(SystemError) -> OpenFolder {
        guard let base else { return try OpenFolder(directory) }
        return try base.descend(directory)
    }

    /// Opens the archive's own folder, made with its parents where they are not there, each synced into its own parent.
    public func make() throws(SystemError) -> OpenFolder {
        if let base { return try base.make(directory, mode: modes.directory) }
        try OpenFolder.make(directory, mode: modes.directory)
        return try OpenFolder(directory)
    }

    /// Makes the name of the archive's own folder durable.
    func synchronizeName() throws(SystemError) {
        guard let base else { return try OpenFolder.synchronizeParent(of: directory) }
        let parent = OpenFolder.parent(of: directory)
        try (parent == "." ? base : base.descend(parent)).synchronize()
    }

    /// A folder and its parents up to the archive's own: what must be synced before anything in the folder is sure to be found
    /// after a crash.
    static func lineage(of relative: String) -> [String] {
        var folders = [""]
        for part in relative.split(separator: "/") { folders.append(join(folders[folders.count - 1], String(part))) }
        return folders
    }

    /// The path of what is in a folder of the archive, relative to that one.
    public static func join(_ folder: String, _ name: String) -> String { folder.isEmpty ? name : "\(folder)/\(name)" }
}

extension OpenFolder {
    // MARK: Out of an archive's own folder

    /// Removes files from a folder of the archive, and then that folder and its parents where nothing is left.
    ///
    /// What is gone already is no error.
    public func removeArchived(_ files: [String], from relative: String) throws(SystemError) {
        do throws(SystemError) {
            let folder = try descend(relative)
            for file in files { try folder.remove(file) }
        } catch { guard error.code == ENOENT else { throw error } }
        removeEmpty(relative)
    }

    /// Removes a folder of the archive, and its parents, where they are empty.
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
            // Something is in it.
        }
    }

    /// Removes those of a folder's files that a process that was killed left half-written; what cannot be removed stays.
    public func removeLeftovers(among files: [String]) {
        for file in files where TemporaryName.isLeftover(file) { try? remove(file) }
    }
}

/// A walk through every folder of an archive, in the order of the names; no link is followed.
public struct ArchiveWalk {
    private let root: OpenFolder
    private var rest = [""]

    /// Begins at the archive's own folder.
    public init(_ root: OpenFolder) { self.root = root }

    /// A folder of the archive.
    public struct Step {
        /// Relative to the archive; empty for its own folder.
        public let relative: String
        public let folder: OpenFolder
        /// The names of its files.
        public let files: [String]
    }

    /// Goes on to the next folder; nil when there is none.
    ///
    /// - Parameter failed: told of a folder that cannot be read; it is passed over, and so is one that is gone.
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
