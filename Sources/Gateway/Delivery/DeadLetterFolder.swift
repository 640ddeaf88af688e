import ConfigJSON
import Glibc
import LinuxSystem
import PluginKit
import ProfileArchive

/// A profile that a receiver has given up.
struct DeadLetter: Sendable {
    let profile: Profile
    let receiver: String
    /// Why, for people.
    let reason: String
    /// The destination's own status, 0 when it has none.
    let status: Int
    let attempts: Int
}

/// The dead letters of one receiver on disk; used by one thread.
struct DeadLetterFolder {
    private struct Letter {
        let files: ArchivedFiles
        let buriedAt: Int64
        let byteCount: Int
    }

    private let archive: Archive
    /// In the order of their burial.
    private var letters: [Letter] = []
    private var durable: Set<String> = []
    private(set) var byteCount = 0
    var count: Int { letters.count }

    /// Looks at what is there from earlier runs, and removes what a killed one left half-written.
    init(_ directory: String) {
        archive = Archive(directory)
        archive.walk(failed: { Log.warning("dead letters cannot be read", ["error": "\($0)"]) }) { [archive] folder, files in
            archive.removeLeftovers(among: files, in: folder)
            letters += Self.letters(files, in: folder, of: archive)
            return true
        }
        letters.sort { ($0.buriedAt, $0.files.stem) < ($1.buriedAt, $1.files.stem) }
        byteCount = letters.reduce(0) { $0 + $1.byteCount }
    }

    /// Puts the files of a folder together; payloads that have no metadata count too, or they would stay for ever.
    private static func letters(_ files: [String], in folder: String, of archive: Archive) -> [Letter] {
        var profiles: [String: (ending: String, count: Int, buriedAt: Int64, byteCount: Int)] = [:]
        for file in files {
            guard let name = ArchivedName(file), let content = FileContent(of: archive.path(file, in: folder)) else { continue }
            var profile = profiles[name.stem] ?? ("", 0, 0, 0)
            if !name.isMetadata { (profile.ending, profile.count) = (name.ending, max(profile.count, (name.index ?? 0) + 1)) }
            profile.buriedAt = max(profile.buriedAt, content.modifiedAt)
            profile.byteCount += content.size
            profiles[name.stem] = profile
        }
        return profiles.map { stem, profile in
            Letter(
                files: ArchivedFiles(folder: folder, stem: stem, ending: profile.ending, count: profile.count),
                buriedAt: profile.buriedAt, byteCount: profile.byteCount)
        }
    }

    // MARK: In

    /// Writes and syncs letters together.
    ///
    /// - Returns: why each of them is not there, nil where it is.
    mutating func store(_ batch: [DeadLetter], at time: Int64, limit: Int) -> [SystemError?] {
        var writer = ArchiveBatch(archive, durable: durable, openFiles: Descriptors.process.budget.deadLetterFiles, limit: limit)
        let entries = batch.map { letter in
            unsafe ArchiveEntry(PluginKit.Profile(view: letter.profile.view), note: Self.note(of: letter, at: time))
        }
        let results = withExtendedLifetime(batch) { writer.store(entries) }
        durable = writer.durable
        return results.map { result in
            switch result {
            case .success(let stored):
                if stored.isAgain { forget(stored.files) }
                letters.append(Letter(files: stored.files, buriedAt: time, byteCount: stored.byteCount))
                byteCount += stored.byteCount
                return nil
            case .failure(let error): return Self.systemError(error)
            }
        }
    }

    private static func note(of letter: DeadLetter, at time: Int64) -> ProfileMetadata.Note {
        let members = [
            ("receiver", JSONValue.quoted(letter.receiver)), ("reason", JSONValue.quoted(letter.reason)), ("status", "\(letter.status)"),
            ("attempts", "\(letter.attempts)"), ("at", JSONValue.quoted(CivilTime(unixNanoseconds: time).rfc3339)),
        ]
        return ProfileMetadata.Note("dead_letter", json: "{" + members.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}")
    }

    private static func systemError(_ error: ArchiveError) -> SystemError {
        switch error {
        case .system(let error): error
        case .tooLarge: SystemError("a dead letter larger than dead_letters.max_bytes", code: EFBIG)
        case .conflict(let path): SystemError("write \(path)", code: EEXIST)
        case .aborted: SystemError("write a dead letter", code: ECANCELED)
        }
    }

    /// A profile that was buried before, as by a run that was killed then, has its files but once.
    private mutating func forget(_ files: ArchivedFiles) {
        guard let index = letters.firstIndex(where: { $0.files.stem == files.stem && $0.files.folder == files.folder }) else { return }
        byteCount -= letters.remove(at: index).byteCount
    }

    // MARK: Out

    /// Removes the oldest until the rest has at most so many bytes.
    ///
    /// - Returns: how many were removed.
    mutating func makeRoom(_ maxBytes: Int) -> Int {
        var rest = byteCount
        return removeFirst { letter in
            guard rest > maxBytes else { return false }
            rest -= letter.byteCount
            return true
        }
    }

    /// Removes what was buried before `time`.
    ///
    /// - Returns: how many were removed.
    mutating func removeBuried(before time: Int64) -> Int { removeFirst { $0.buriedAt < time } }

    /// What cannot be removed stays, and so does what was buried after it.
    private mutating func removeFirst(while isOver: (Letter) -> Bool) -> Int {
        var removed = 0
        do throws(SystemError) {
            while removed < letters.count, isOver(letters[removed]) {
                let files = letters[removed].files
                // The metadata first: what is cut off here leaves payloads that nobody sends again, and the next scan finds.
                try archive.remove([files.metadata] + (0..<files.count).map(files.payload), from: files.folder)
                byteCount -= letters[removed].byteCount
                removed += 1
            }
        } catch { Log.warning("a dead letter cannot be removed", ["error": "\(error)"]) }
        letters.removeFirst(removed)
        return removed
    }

    /// Forgets what somebody else removed, as `gateway replay --remove` does.
    mutating func forgetMissing() {
        let archive = archive
        letters.removeAll { letter in
            let files = letter.files
            // Where there is no metadata, the payloads may have stayed.
            return ([files.metadata] + (0..<files.count).map(files.payload)).allSatisfy {
                FileContent(of: archive.path($0, in: files.folder)) == nil
            }
        }
        byteCount = letters.reduce(0) { $0 + $1.byteCount }
    }
}
