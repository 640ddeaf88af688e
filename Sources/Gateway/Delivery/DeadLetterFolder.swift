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
        let files: Files
        let buriedAt: Int64
        let byteCount: Int
    }

    /// The files of one letter, by names that were read or written: those that a number in a name would make up may be any number.
    fileprivate struct Files {
        let folder: String
        let stem: String
        /// How the names go on behind the stem, that of the metadata first.
        let endings: [String]

        var names: [String] { endings.map { stem + $0 } }
    }

    /// Where they are; another one once the data directory was opened again.
    var archive: Archive
    /// In the order of their burial.
    private var letters: [Letter] = []
    private var durable: Set<String> = []
    private(set) var byteCount = 0
    /// False while some of what is there could not be looked at, and is not counted.
    private(set) var isWhole = true
    var count: Int { letters.count }

    /// Looks at what is there from earlier runs, and removes what a killed one left half-written.
    init(_ archive: Archive) {
        self.archive = archive
        scan()
    }

    /// Takes in what is there and not known.
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

    /// Puts the files of a folder together; payloads that have no metadata count too, or they would stay for ever.
    ///
    /// - Throws: when one of them cannot be looked at: a letter of which a part is known would be removed in part.
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

    // MARK: In

    /// Writes and syncs letters together.
    ///
    /// - Parameters:
    ///   - time: the wall clock's, which the metadata tells.
    ///   - age: what their age counts from.
    /// - Returns: why each of them is not there, nil where it is.
    mutating func store(_ batch: [DeadLetter], at time: Int64, age: Int64, limit: Int) -> [SystemError?] {
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

    /// A profile that was buried before, as by a run that was killed then, has its files but once.
    private mutating func forget(_ files: ArchivedFiles) {
        guard let index = letters.firstIndex(where: { $0.files.stem == files.stem && $0.files.folder == files.folder }) else { return }
        letters.remove(at: index)
        countBytes()
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
                // The metadata first: what is cut off here leaves payloads that nobody sends again, and the next scan finds.
                let files = letters[removed].files
                try archive.open().removeArchived(files.names, from: files.folder)
                removed += 1
            }
        } catch { Log.warning("a dead letter cannot be removed", ["error": "\(error)"]) }
        letters.removeFirst(removed)
        if removed > 0 { countBytes() }
        return removed
    }

    /// Forgets what somebody else removed, as `gateway replay --remove` does.
    ///
    /// What cannot be looked at is not forgotten; and a folder that is gone may come back with all that is in it.
    mutating func forgetMissing() {
        let root: OpenFolder?
        do throws(SystemError) { root = try archive.open() } catch {
            guard error.code == ENOENT else { return }
            root = nil
            if !letters.isEmpty { isWhole = false }
        }
        // Letters of one folder mostly follow each other.
        var last: (relative: String, Place)?
        letters.removeAll { letter in
            guard let root else { return true }
            let folder = letter.files.folder
            let place = if let last, last.relative == folder { last.1 } else { Place(folder, in: root) }
            last = (folder, place)
            // Where there is no metadata, the payloads may have stayed.
            return letter.files.names.allSatisfy(place.lacks)
        }
        countBytes()
    }

    /// A folder of letters as it is found.
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
