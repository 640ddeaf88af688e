import Glibc
import LinuxSystem
import PluginKit
import Synchronization

/// Several profiles made durable together: all files are written, then synced, then named, and then their folders are
/// synced, each once.
struct ArchiveBatch {
    private static let nextTemporary = Atomic<Int>(0)

    private let archive: Archive
    private var folders: Set<String> = []
    /// Folders that are on disk with all their parents; grows with what this batch has synced.
    private(set) var durable: Set<String>
    private let isAborting: () -> Bool
    private var openFiles = 0
    private var newFolders: Set<String> = []

    /// More files than this are synced one by one, for a Push may have thousands of samples and the process has only so many
    /// descriptors.
    private static let maximumOpenFiles = 128
    private static let maximumDurable = 10_000

    init(_ archive: Archive, durable: Set<String>, isAborting: @escaping () -> Bool) {
        self.archive = archive
        self.durable = durable.count < Self.maximumDurable ? durable : []
        self.isAborting = isAborting
    }

    /// A file under its temporary name.
    fileprivate final class StagedFile {
        /// Open until it is synced.
        private var file: FileDescriptor?
        let temporary: String
        let final: String

        init(_ file: consuming FileDescriptor?, temporary: String, final: String) {
            self.file = file
            self.temporary = temporary
            self.final = final
        }

        func synchronize() throws(SystemError) {
            guard let file = file.take() else { return }
            try file.synchronize()
        }
    }

    /// The files of one profile, or why there are none.
    private typealias Staged = Result<[StagedFile], ArchiveError>

    /// - Returns: what became of each profile, in order.
    mutating func store(_ profiles: [Profile]) -> [Result<Void, ArchiveError>] {
        var staged: [Staged] = []
        for profile in profiles { staged.append(stage(profile)) }
        staged = staged.map { $0.then { (file) throws(SystemError) in try file.synchronize() } }
        staged = staged.map { $0.then { (file) throws(SystemError) in try Self.rename(file) } }
        let failure = syncFolders()
        return staged.map { result in
            switch result {
            case .success: failure.map { .failure(.system($0)) } ?? .success(())
            case .failure(let error): .failure(error)
            }
        }
    }

    private mutating func stage(_ profile: Profile) -> Staged {
        var files: [StagedFile] = []
        do throws(ArchiveError) {
            let place = Archive.place(of: profile)
            let ending = Archive.ending(of: profile)
            var entries: [ProfileMetadata.Entry] = []
            for index in 0..<profile.sampleCount {
                if isAborting() { throw ArchiveError.aborted }
                let sample = profile.sample(index)
                let suffix = profile.sampleCount > 1 ? "-\(index)" : ""
                let name = "\(place.name)\(suffix).\(ending)"
                let hash = unsafe SHA256.hex(of: sample.bytes)
                entries.append(unsafe ProfileMetadata.Entry(file: name, id: sample.id, size: sample.bytes.count, hash: hash))
                if try exists(place.folder, name, hash) { continue }
                files.append(try write(unsafe RawSpan(_unsafeBytes: sample.bytes), place.folder, name))
            }
            let metadata = Array(ProfileMetadata.text(of: profile, entries).utf8)
            files.append(try unsafe write(metadata.span.bytes, place.folder, "\(place.name).json"))
            return .success(files)
        } catch {
            for file in files { unsafe unlink(file.temporary) }
            return .failure(error)
        }
    }

    /// True when the file is there with the same bytes, as after a retry whose answer was lost.
    private func exists(_ folder: String, _ name: String, _ hash: String) throws(ArchiveError) -> Bool {
        let path = archive.path("\(folder)/\(name)")
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW).readAll(limit: .max)
        } catch {
            if error.code == ENOENT { return false }
            throw .system(error)
        }
        guard SHA256.hex(of: bytes) == hash else { throw .conflict(path: path) }
        return true
    }

    private mutating func write(_ bytes: RawSpan, _ folder: String, _ name: String) throws(ArchiveError) -> StagedFile {
        // Two receivers may share a directory, and then each of them writes a file of this name.
        let number = Self.nextTemporary.wrappingAdd(1, ordering: .relaxed).oldValue
        let temporary = archive.path("\(folder)/.\(name).\(getpid())-\(number).tmp")
        do throws(SystemError) {
            let opened = try open(temporary, folder)
            openFiles += 1
            do throws(SystemError) {
                try opened.writeAll(bytes)
                if openFiles > Self.maximumOpenFiles { try opened.synchronize() }
            } catch {
                unsafe unlink(temporary)
                throw SystemError("write \(temporary)", code: error.code)
            }
            folders.formUnion(durable.contains(folder) ? [archive.path(folder)] : archive.lineage(of: folder))
            newFolders.insert(folder)
            let final = archive.path("\(folder)/\(name)")
            guard openFiles > Self.maximumOpenFiles else { return StagedFile(opened, temporary: temporary, final: final) }
            return StagedFile(nil, temporary: temporary, final: final)
        } catch { throw .system(error) }
    }

    private mutating func open(_ path: String, _ folder: String) throws(SystemError) -> FileDescriptor {
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW
        do throws(SystemError) {
            return try FileDescriptor.open(path, flags)
        } catch {
            guard error.code == ENOENT else { throw error }
            try archive.makeFolder(folder)
            return try FileDescriptor.open(path, flags)
        }
    }

    private static func rename(_ file: StagedFile) throws(SystemError) {
        guard unsafe Glibc.rename(file.temporary, file.final) == 0 else { throw SystemError("rename \(file.temporary)") }
    }

    private mutating func syncFolders() -> SystemError? {
        for folder in folders {
            do throws(SystemError) {
                try FileDescriptor.open(folder, O_RDONLY | O_DIRECTORY).synchronizeDirectory()
            } catch { return error }
        }
        durable.formUnion(newFolders)
        return nil
    }
}

extension Result<[ArchiveBatch.StagedFile], ArchiveError> {
    /// Does one more step with every file; when one fails, the profile has failed and its temporary files go.
    fileprivate func then(_ step: (ArchiveBatch.StagedFile) throws(SystemError) -> Void) -> Self {
        guard case .success(let files) = self else { return self }
        do throws(SystemError) {
            for file in files { try step(file) }
            return self
        } catch {
            for file in files { unsafe unlink(file.temporary) }
            return .failure(.system(error))
        }
    }
}
