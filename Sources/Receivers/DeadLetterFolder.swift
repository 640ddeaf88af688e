import ConfigJSON
import Glibc
import LinuxSystem
import PluginKit
import ProfileArchive
import Profiles
import Telemetry

/// A profile that a receiver has given up.
struct DeadLetter: Sendable {
    let profile: ReceivedProfile
    let receiver: String
    /// The reason, for people to read.
    let reason: String
    /// The destination's status; 0 when it gave none.
    let status: Int
    let attempts: Int
}

/// The dead letters of one receiver on disk; used by one thread.
struct DeadLetterFolder {
    private struct Letter {
        let files: Files
        let buriedAt: Int64
        let byteCount: Int
    }

    /// The files of one letter. The names are kept as found or written, because a count in a name could claim any number of files.
    fileprivate struct Files {
        let folder: String
        let stem: String
        /// The parts of the names after the stem, that of the metadata first.
        let endings: [String]

        var names: [String] { endings.map { stem + $0 } }
    }

    /// The archive that holds the letters; replaced when the data directory was opened again.
    var archive: Archive
    /// The letters in the order in which they were written.
    private var letters: [Letter] = []
    private var durable: Set<String> = []
    private(set) var byteCount = 0
    /// False while some of the existing files could not be read and are not counted.
    private(set) var isWhole = true
    var count: Int { letters.count }

    /// Scans the letters of earlier runs, and removes files that a killed run left half-written.
    init(_ archive: Archive) {
        self.archive = archive
        scan()
    }

    /// Adds the existing letters that are not known yet.
    mutating func scan() {
        let known = Set(letters.map { "\($0.files.folder)/\($0.files.stem)" })
        var (found, isWhole): ([Letter], Bool) = ([], true)
        let failed = { (error: SystemError) in
            isWhole = false
            Log.warning("dead letters cannot be read; it is tried again", ["error": "\(error)"])
        }
        do throws(SystemError) {
            var walk = ArchiveWalk(try archive.open())
            while let step = walk.next(failed: failed) {
                step.folder.removeLeftovers(among: step.files)
                do throws(SystemError) { found += try Self.letters(in: step) } catch { failed(error) }
            }
        } catch { if error.code != ENOENT { failed(error) } }
        letters += found.filter { !known.contains("\($0.files.folder)/\($0.files.stem)") }
        letters.sort { ($0.buriedAt, $0.files.stem) < ($1.buriedAt, $1.files.stem) }
        self.isWhole = isWhole
        countBytes()
    }

    private mutating func countBytes() { byteCount = letters.reduce(0) { $0.addingSaturated($1.byteCount) } }

    /// Groups the files of a folder into letters; payloads without metadata count too, because they would never be removed
    /// otherwise.
    ///
    /// - Throws: an error when a file's status cannot be read: a letter known only in part would be removed only in part.
    private static func letters(in step: ArchiveWalk.Step) throws(SystemError) -> [Letter] {
        var profiles: [String: (endings: [String], buriedAt: Int64, byteCount: Int)] = [:]
        for file in step.files {
            guard let name = ArchivedName(file), let status = try step.folder.status(of: file), status.kind == .regular else {
                continue
            }
            var profile = profiles[name.stem] ?? ([], 0, 0)
            profile.endings.insert(String(file.dropFirst(name.stem.count)), at: name.isMetadata ? 0 : profile.endings.count)
            profile.buriedAt = max(profile.buriedAt, status.modifiedAt)
            profile.byteCount = profile.byteCount.addingSaturated(status.size)
            profiles[name.stem] = profile
        }
        return profiles.map { stem, profile in
            Letter(
                files: Files(folder: step.relative, stem: stem, endings: profile.endings), buriedAt: profile.buriedAt,
                byteCount: profile.byteCount)
        }
    }

    // MARK: Writing

    /// Writes and syncs letters together.
    ///
    /// - Parameters:
    ///   - time: the wall clock's time, for the metadata, Unix nanoseconds.
    ///   - age: the time from which their age is counted, Unix nanoseconds.
    ///   - openFiles: the most files that may be open at a time.
    /// - Returns: for each letter the error that prevented writing it, nil on success.
    mutating func store(_ batch: [DeadLetter], at time: Int64, age: Int64, openFiles: Int, limit: Int) -> [SystemError?] {
        var writer = ArchiveBatch(archive, durable: durable, openFiles: openFiles, limit: limit)
        let entries = batch.map { letter in
            unsafe ArchiveEntry(PluginKit.Profile(view: letter.profile.view), note: Self.note(of: letter, at: time))
        }
        let results = withExtendedLifetime(batch) { writer.store(entries) }
        durable = writer.durable
        return results.map { result in
            switch result {
            case .success(let stored):
                if stored.isAgain { forget(stored.files) }
                letters.append(Letter(files: Files(stored.files), buriedAt: age, byteCount: stored.byteCount))
                byteCount = byteCount.addingSaturated(stored.byteCount)
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
        case .system(let error), .link(let error): error
        case .tooLarge: SystemError("a dead letter larger than dead_letters.max_bytes", code: EFBIG)
        case .conflict(let path): SystemError("write \(path)", code: EEXIST)
        case .aborted: SystemError("write a dead letter", code: ECANCELED)
        }
    }

    /// Removes the earlier entry of a profile that is written again, for example after a run was killed: its files exist only once.
    private mutating func forget(_ files: ArchivedFiles) {
        guard let index = letters.firstIndex(where: { $0.files.stem == files.stem && $0.files.folder == files.folder }) else { return }
        letters.remove(at: index)
        countBytes()
    }

    // MARK: Removing

    /// Removes the oldest letters until the rest have at most `maxBytes` bytes.
    ///
    /// - Returns: how many were removed.
    mutating func makeRoom(_ maxBytes: Int) -> Int { removeOldest { _, rest, stuck in rest > maxBytes && rest - stuck > maxBytes / 2 } }

    /// Removes the letters written before `time`.
    ///
    /// - Returns: how many were removed.
    mutating func removeBuried(before time: Int64) -> Int { removeOldest { letter, _, _ in letter.buriedAt < time } }

    /// The most folders that are passed over in one search, because a letter in them cannot be removed.
    private static let mostPassedOver = 64

    /// Removes letters from the oldest on while `isOver` holds of a letter, the bytes of all that are left, and those of them that cannot be
    /// removed. A letter that cannot be removed is passed over, with the others of its folder.
    private mutating func removeOldest(while isOver: (Letter, _ rest: Int, _ stuck: Int) -> Bool) -> Int {
        var (rest, stuck, end, kept, failed, failure) = (byteCount, 0, 0, [Letter](), Set<String>(), SystemError?.none)
        do throws(SystemError) {
            while end < letters.count, isOver(letters[end], rest, stuck) {
                let letter = letters[end]
                let folder = letter.files.folder
                if failed.contains(folder) {
                    kept.append(letter)
                } else {
                    let root = try archive.open()
                    // The metadata is removed first: an interruption then leaves payloads that are not replayed, and that the next scan
                    // finds.
                    do throws(SystemError) {
                        try root.removeArchived(letter.files.names, from: folder)
                        rest -= letter.byteCount
                    } catch {
                        guard !error.isLackOfDescriptors, failed.count < Self.mostPassedOver else { throw error }
                        failure = error
                        failed.insert(folder)
                        stuck += letters[end...].reduce(0) { $0 + ($1.files.folder == folder ? $1.byteCount : 0) }
                        kept.append(letter)
                    }
                }
                end += 1
            }
        } catch { failure = error }
        if let failure { Log.warning("a dead letter cannot be removed", ["error": "\(failure)"]) }
        letters.replaceSubrange(..<end, with: kept)
        if end > kept.count { countBytes() }
        return end - kept.count
    }

    /// Forgets letters that were removed by others, such as `gateway replay --remove`.
    ///
    /// Letters whose files cannot be checked are kept. If the whole archive is gone, it is scanned again later, because it may come
    /// back.
    mutating func forgetMissing() {
        let root: OpenFolder?
        do throws(SystemError) { root = try archive.open() } catch {
            guard error.code == ENOENT else { return }
            root = nil
            if !letters.isEmpty { isWhole = false }
        }
        // Letters of the same folder mostly follow each other.
        var last: (relative: String, Place)?
        letters.removeAll { letter in
            guard let root else { return true }
            let folder = letter.files.folder
            let place = if let last, last.relative == folder { last.1 } else { Place(folder, in: root) }
            last = (folder, place)
            // Payloads may remain without their metadata.
            return letter.files.names.allSatisfy(place.lacks)
        }
        countBytes()
    }

    /// The result of opening a folder of letters.
    private enum Place {
        case found(OpenFolder), gone, unknown

        init(_ relative: String, in root: OpenFolder) {
            do throws(SystemError) { self = .found(try root.descend(relative)) } catch { self = error.code == ENOENT ? .gone : .unknown }
        }

        func lacks(_ file: String) -> Bool {
            switch self {
            case .gone: return true
            case .unknown: return false
            case .found(let folder):
                do throws(SystemError) { return try folder.status(of: file) == nil } catch { return false }
            }
        }
    }
}

extension DeadLetterFolder.Files {
    fileprivate init(_ files: ArchivedFiles) {
        let names = [files.metadata] + (0..<files.count).map(files.payload)
        self.init(folder: files.folder, stem: files.stem, endings: names.map { String($0.dropFirst(files.stem.count)) })
    }
}
