import Glibc
import LinuxSystem
public import PluginKit

/// One profile to archive.
public struct ArchiveEntry: Sendable {
    let profile: Profile
    let note: ProfileMetadata.Note?

    /// Names a profile, which must live until the batch is stored.
    ///
    /// - Parameter note: one more member of the metadata, at its end.
    public init(_ profile: Profile, note: ProfileMetadata.Note? = nil) { (self.profile, self.note) = (profile, note) }
}

/// Several profiles made durable together: all files are written, then synced, then named, and then their folders are
/// synced, each once.
public struct ArchiveBatch {
    private let archive: Archive
    private var folders: Set<String> = []
    /// Folders that are on disk with all their parents; grows with what this batch has synced.
    public private(set) var durable: Set<String>
    private let limit: Int
    private let isAborting: () -> Bool
    private var openFiles = 0
    private var newFolders: Set<String> = []

    private let maximumOpenFiles: Int

    /// The most files that are worth keeping open, however many descriptors there are.
    public static let mostOpenFiles = 128
    private static let maximumDurable = 10_000

    /// Begins a batch.
    ///
    /// - Parameters:
    ///   - durable: what the batch before this one left.
    ///   - openFiles: the most files that stay open until they are synced together; further ones, and a Push may have thousands
    ///     of samples, are synced one by one. One or two more are open while a file is written or a folder synced.
    ///   - limit: the most bytes that one profile's files may have.
    ///   - isAborting: asked between files.
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

    /// What is in the archive now.
    public struct Stored: Sendable {
        /// The names of the files.
        public let files: ArchivedFiles
        /// The bytes of payloads and metadata.
        public let byteCount: Int
        /// True when some of it was there before.
        public fileprivate(set) var isAgain = false
    }

    /// A file under its temporary name.
    fileprivate final class StagedFile {
        /// Open until it is synced.
        private var file: FileDescriptor?
        private let archive: Archive
        private let temporary: String
        private let final: String

        init(_ file: consuming FileDescriptor?, _ archive: Archive, temporary: String, final: String) {
            self.file = file
            (self.archive, self.temporary, self.final) = (archive, temporary, final)
        }

        func discard() { unsafe unlinkat(archive.root, temporary, 0) }

        func rename() throws(SystemError) {
            guard unsafe renameat(archive.root, temporary, archive.root, final) == 0 else { throw SystemError("rename \(temporary)") }
        }

        func synchronize() throws(SystemError) {
            guard let file = file.take() else { return }
            try file.synchronize()
        }
    }

    /// The files of one profile that are not there yet, and what will be there with them.
    fileprivate struct StagedProfile {
        var files: [StagedFile] = []
        var stored: Stored
    }

    /// One profile's files, or why there are none.
    private typealias Staged = Result<StagedProfile, ArchiveError>

    /// Makes profiles durable.
    ///
    /// - Returns: what became of each of them, in order.
    public mutating func store(_ entries: [ArchiveEntry]) -> [Result<Stored, ArchiveError>] {
        var staged: [Staged] = []
        for entry in entries { staged.append(stage(entry)) }
        staged = staged.map { $0.then { (file) throws(SystemError) in try file.synchronize() } }
        staged = staged.map { $0.then { (file) throws(SystemError) in try file.rename() } }
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
            for file in staged.files { file.discard() }
            return .failure(error)
        }
    }

    /// True when the file is there with the same bytes, as after a retry whose answer was lost.
    private func exists(_ folder: String, _ name: String, _ hash: String) throws(ArchiveError) -> Bool {
        let path = archive.path(name, in: folder)
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try FileDescriptor.openFile(path, O_RDONLY, in: archive.root).readAll(limit: .max)
        } catch {
            if error.code == ENOENT { return false }
            // No file, so nobody would ever be able to put one there.
            if error.code == EINVAL { throw .conflict(path: path) }
            throw .system(error)
        }
        guard SHA256.hex(of: bytes) == hash else { throw .conflict(path: path) }
        return true
    }

    private mutating func write(_ bytes: RawSpan, _ folder: String, _ name: String) throws(ArchiveError) -> StagedFile {
        let temporary = archive.path(TemporaryName.make(for: name), in: folder)
        do throws(SystemError) {
            let opened = try open(temporary, folder)
            openFiles += 1
            do throws(SystemError) {
                try opened.writeAll(bytes)
                if openFiles > maximumOpenFiles { try opened.synchronize() }
            } catch {
                unsafe unlinkat(archive.root, temporary, 0)
                throw SystemError("write \(temporary)", code: error.code)
            }
            folders.formUnion(durable.contains(folder) ? [archive.path(folder)] : archive.lineage(of: folder))
            newFolders.insert(folder)
            let final = archive.path(name, in: folder)
            guard openFiles > maximumOpenFiles else { return StagedFile(opened, archive, temporary: temporary, final: final) }
            return StagedFile(nil, archive, temporary: temporary, final: final)
        } catch { throw .system(error) }
    }

    private mutating func open(_ path: String, _ folder: String) throws(SystemError) -> FileDescriptor {
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        do throws(SystemError) {
            return try FileDescriptor.openFile(path, flags, in: archive.root)
        } catch {
            guard error.code == ENOENT else { throw error }
            try archive.makeFolder(folder)
            // Somebody removed it, perhaps with its parents.
            durable.remove(folder)
            return try FileDescriptor.openFile(path, flags, in: archive.root)
        }
    }

    private mutating func syncFolders() -> SystemError? {
        for folder in folders {
            do throws(SystemError) {
                try FileDescriptor.open(folder, O_RDONLY | O_DIRECTORY, in: archive.root).synchronizeDirectory()
            } catch { return error }
        }
        durable.formUnion(newFolders)
        return nil
    }
}

extension Result<ArchiveBatch.StagedProfile, ArchiveError> {
    /// Does one more step with every file; when one fails, the profile has failed and its temporary files go.
    fileprivate func then(_ step: (ArchiveBatch.StagedFile) throws(SystemError) -> Void) -> Self {
        guard case .success(let profile) = self else { return self }
        do throws(SystemError) {
            for file in profile.files { try step(file) }
            return self
        } catch {
            for file in profile.files { file.discard() }
            return .failure(.system(error))
        }
    }
}
