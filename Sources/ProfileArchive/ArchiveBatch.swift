import Glibc
import LinuxSystem
public import PluginKit

/// One profile to archive.
public struct ArchiveEntry: Sendable {
    let profile: Profile
    let note: ProfileMetadata.Note?

    /// Makes an entry for a profile, which must live until the batch is stored.
    ///
    /// - Parameter note: an additional last member of the metadata.
    public init(_ profile: Profile, note: ProfileMetadata.Note? = nil) { (self.profile, self.note) = (profile, note) }
}

/// Stores several profiles durably together: writes all files, syncs them, renames them to their final names, and then syncs each
/// folder once.
public struct ArchiveBatch {
    private let archive: Archive
    /// The archive's root folder, once opened.
    private var root: OpenFolder?
    /// The folder used last, because most profiles go to the same few folders.
    private var current: (relative: String, folder: OpenFolder)?
    private var folders: Set<String> = []
    /// Folders that are durable with all their parents, relative to the archive; includes those that this batch has synced.
    public private(set) var durable: Set<String>
    private let limit: Int
    private let isAborting: () -> Bool
    private var openFiles = 0
    private var newFolders: Set<String> = []

    private let maximumOpenFiles: Int

    /// The most descriptors that a batch has open beside the files waiting for a sync: two folders, and a third folder or a file.
    public static let foldersOpen = 3

    /// The most files kept open, however many descriptors are available.
    public static let mostOpenFiles = 128
    private static let maximumDurable = 10_000

    /// Begins a batch.
    ///
    /// - Parameters:
    ///   - durable: the durable folders from the previous batch.
    ///   - openFiles: the most files kept open to be synced together. Further files are synced one by one; a Push may have
    ///     thousands of samples. Up to ``foldersOpen`` more descriptors are open while a file is written or a folder synced.
    ///   - limit: the most bytes that the files of one profile may have.
    ///   - isAborting: called between files.
    public init(
        _ archive: Archive, durable: Set<String>, openFiles: Int = mostOpenFiles, limit: Int = .max,
        isAborting: @escaping () -> Bool = { false }
    ) {
        self.archive = archive
        self.durable = durable.count < Self.maximumDurable ? durable : []
        maximumOpenFiles = min(openFiles, Self.mostOpenFiles)
        self.limit = limit
        self.isAborting = isAborting
    }

    /// The stored files of one profile.
    public struct Stored: Sendable {
        /// The names of the files.
        public let files: ArchivedFiles
        /// The bytes of payloads and metadata.
        public let byteCount: Int
        /// True when some of the files existed before.
        public fileprivate(set) var isAgain = false
    }

    /// A file under its temporary name, before the rename.
    fileprivate final class StagedFile {
        /// Open until the file is synced.
        private var file: FileDescriptor?
        private let temporary: String
        private let final: String

        init(_ file: consuming FileDescriptor?, temporary: String, final: String) {
            self.file = file
            (self.temporary, self.final) = (temporary, final)
        }

        /// Removes the temporary file if possible.
        func discard(from folder: OpenFolder) { try? folder.remove(temporary) }

        func rename(in folder: OpenFolder) throws(SystemError) { try folder.rename(temporary, to: final) }

        func synchronize() throws(SystemError) {
            guard let file = file.take() else { return }
            try file.synchronize()
        }
    }

    /// The files of one profile that are still to be renamed, and the result.
    fileprivate struct StagedProfile {
        var files: [StagedFile] = []
        var stored: Stored
    }

    /// The staged files of one profile, or the error.
    private typealias Staged = Result<StagedProfile, ArchiveError>

    /// Stores profiles durably.
    ///
    /// - Returns: the result of each profile, in order.
    public mutating func store(_ entries: [ArchiveEntry]) -> [Result<Stored, ArchiveError>] {
        var staged: [Staged] = []
        for entry in entries { staged.append(stage(entry)) }
        // Each sync may take long, and an abort has a second.
        for index in staged.indices {
            staged[index] = advance(staged[index], mayAbort: true) { (file, _) throws(SystemError) in try file.synchronize() }
        }
        for index in staged.indices {
            staged[index] = advance(staged[index]) { (file, folder) throws(SystemError) in try file.rename(in: folder) }
        }
        let failure = syncFolders()
        return staged.map { result in
            switch result {
            case .success(let profile): failure.map { .failure(.system($0)) } ?? .success(profile.stored)
            case .failure(let error): .failure(error)
            }
        }
    }

    private mutating func stage(_ entry: ArchiveEntry) -> Staged {
        let files = ArchivedFiles(of: entry.profile)
        let payloads = (0..<files.count).map { index in
            let sample = entry.profile.sample(index)
            let hash = unsafe SHA256.hex(of: sample.bytes)
            return unsafe ProfileMetadata.Payload(file: files.payload(index), id: sample.id, size: sample.bytes.count, hash: hash)
        }
        let metadata = Array(ProfileMetadata.text(of: entry.profile, payloads, entry.note).utf8)
        let byteCount = payloads.reduce(metadata.count) { $0 + $1.size }
        guard byteCount <= limit else { return .failure(.tooLarge) }
        var staged = StagedProfile(stored: Stored(files: files, byteCount: byteCount))
        do throws(ArchiveError) {
            for (index, payload) in payloads.enumerated() {
                if isAborting() { throw ArchiveError.aborted }
                if try exists(files.folder, payload.file, payload.hash) {
                    staged.stored.isAgain = true
                    continue
                }
                staged.files.append(
                    try write(unsafe RawSpan(_unsafeBytes: entry.profile.sample(index).bytes), files.folder, payload.file))
            }
            staged.files.append(try unsafe write(metadata.span.bytes, files.folder, files.metadata))
            return .success(staged)
        } catch {
            discard(staged)
            return .failure(error)
        }
    }

    /// Runs one step for every file of a profile; if one fails, the profile fails and its temporary files are removed.
    private mutating func advance(
        _ staged: Staged, mayAbort: Bool = false, _ step: (StagedFile, OpenFolder) throws(SystemError) -> Void
    ) -> Staged {
        guard case .success(let profile) = staged else { return staged }
        do throws(ArchiveError) {
            if mayAbort, isAborting() { throw ArchiveError.aborted }
            guard let folder = try open(profile.stored.files.folder) else { throw .system(SystemError("open its folder", code: ENOENT)) }
            do throws(SystemError) { for file in profile.files { try step(file, folder) } } catch { throw ArchiveError(below: error) }
            return staged
        } catch {
            discard(profile)
            return .failure(error)
        }
    }

    private mutating func discard(_ profile: StagedProfile) {
        guard !profile.files.isEmpty, let folder = try? open(profile.stored.files.folder) else { return }
        for file in profile.files { file.discard(from: folder) }
    }

    // MARK: Folders

    /// Opens a folder of the archive; nil when it does not exist.
    private mutating func open(_ relative: String) throws(ArchiveError) -> OpenFolder? {
        if let current, current.relative == relative { return current.folder }
        // Closed first, to limit the number of open descriptors.
        current = nil
        guard let root = try openRoot() else { return nil }
        do throws(SystemError) {
            let folder = try root.descend(relative)
            current = (relative, folder)
            return folder
        } catch {
            if error.code == ENOENT { return nil }
            throw ArchiveError(below: error)
        }
    }

    private mutating func openRoot() throws(ArchiveError) -> OpenFolder? {
        if let root { return root }
        do throws(SystemError) { root = try archive.open() } catch { guard error.code == ENOENT else { throw .system(error) } }
        return root
    }

    private mutating func make(_ relative: String) throws(ArchiveError) -> OpenFolder {
        // The folder was removed, perhaps with its parents.
        durable.remove(relative)
        current = nil
        let root: OpenFolder
        // The root is opened again, because the open one may have been removed.
        do throws(SystemError) { root = try archive.make() } catch { throw .system(error) }
        self.root = root
        do throws(SystemError) {
            // New folders are synced later with all others, each once.
            let folder = try root.make(relative, mode: archive.modes.directory, isSynced: false)
            current = (relative, folder)
            return folder
        } catch { throw ArchiveError(below: error) }
    }

    // MARK: Files

    /// True when the file exists with the same bytes, as in a retry after the response was lost.
    private mutating func exists(_ relative: String, _ name: String, _ hash: String) throws(ArchiveError) -> Bool {
        guard let folder = try open(relative) else { return false }
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try folder.open(name, O_RDONLY).readAll(limit: .max)
        } catch {
            if error.code == ENOENT { return false }
            // It is not a regular file, so this name can never be written.
            if error.code == EINVAL { throw .conflict(path: folder.path(of: name)) }
            throw ArchiveError(below: error)
        }
        guard SHA256.hex(of: bytes) == hash else { throw .conflict(path: folder.path(of: name)) }
        return true
    }

    private mutating func write(_ bytes: RawSpan, _ relative: String, _ name: String) throws(ArchiveError) -> StagedFile {
        let temporary = TemporaryName.make(for: name)
        let opened = try create(temporary, in: relative)
        guard let folder = current?.folder else { throw .system(SystemError("open \(relative)", code: ENOENT)) }
        openFiles += 1
        do throws(SystemError) {
            try opened.writeAll(bytes)
            if archive.modes.file.isExact { try opened.set(archive.modes.file) }
            if openFiles > maximumOpenFiles { try opened.synchronize() }
        } catch {
            try? folder.remove(temporary)
            throw .system(SystemError("write \(folder.path(of: temporary))", code: error.code))
        }
        folders.formUnion(durable.contains(relative) ? [relative] : Archive.lineage(of: relative))
        newFolders.insert(relative)
        guard openFiles > maximumOpenFiles else { return StagedFile(opened, temporary: temporary, final: name) }
        return StagedFile(nil, temporary: temporary, final: name)
    }

    /// Creates a file in a folder, which becomes the current one.
    private mutating func create(_ name: String, in relative: String) throws(ArchiveError) -> FileDescriptor {
        if let folder = try open(relative) {
            do throws(SystemError) { return try create(name, folder) } catch {
                guard error.code == ENOENT else { throw ArchiveError(below: error) }
            }
        }
        let folder = try make(relative)
        do throws(SystemError) { return try create(name, folder) } catch { throw ArchiveError(below: error) }
    }

    private func create(_ name: String, _ folder: OpenFolder) throws(SystemError) -> FileDescriptor {
        try folder.open(name, O_WRONLY | O_CREAT | O_TRUNC, mode: archive.modes.file.bits)
    }

    /// Syncs the folders; the list begins with the root, whose name is made durable too.
    private mutating func syncFolders() -> SystemError? {
        do throws(ArchiveError) {
            for relative in folders.sorted() {
                guard let folder = try open(relative) else { throw .system(SystemError("sync \(relative)", code: ENOENT)) }
                do throws(SystemError) {
                    try folder.synchronize()
                    if relative.isEmpty { try archive.synchronizeName() }
                } catch { throw .system(error) }
            }
            durable.formUnion(newFolders)
            return nil
        } catch {
            switch error {
            case .system(let error), .link(let error): return error
            default: return SystemError("sync the archive's folders", code: EIO)
            }
        }
    }
}
