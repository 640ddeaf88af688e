import Glibc
import LinuxSystem
import ProfileArchive

/// The profiles of the oldest minute in an archive's hour, in the order of removal. Used by one thread.
///
/// Only one minute is held in memory, because an hour may have millions of profiles.
struct OldestProfiles {
    struct Profile {
        let folder: String
        let stem: String
        /// The metadata comes first, so that `gateway replay` does not send a profile whose removal was interrupted.
        var files: [String] = []
        var bytes = 0

        /// The order of removal: by time, then by order of arrival.
        static func isBefore(_ a: Profile, _ b: Profile) -> Bool {
            let times = (a.stem.prefix(minute * 2), b.stem.prefix(minute * 2))
            return (times.0, a.stem.utf8.count, a.stem, a.folder) < (times.1, b.stem.utf8.count, b.stem, b.folder)
        }
    }

    private let aborting: Flag
    private var hour = ""
    /// In reverse order: the next one to remove is the last.
    private var profiles: [Profile] = []
    /// The folders whose profiles are left out, because one of them could not be removed, and what they hold.
    private var passedOver: [String: ArchiveIndex.Hour] = [:]
    /// What all of these hold.
    private(set) var stuck = ArchiveIndex.Hour()
    /// The length of a name up to its minute, `20260131T2359`; twice this length covers the time without the sequence.
    private static let minute = 13

    /// - Parameter aborting: once raised, a search ends early.
    init(_ aborting: Flag) { self.aborting = aborting }

    /// The oldest profile of an hour; nil when none is left.
    mutating func first(of hour: String, in root: OpenFolder) throws(SystemError) -> Profile? {
        if hour != self.hour || profiles.isEmpty {
            profiles = try collect(hour, root)
            self.hour = hour
        }
        return profiles.last
    }

    mutating func removeFirst() { _ = profiles.popLast() }

    /// Leaves a folder's profiles out from now on.
    ///
    /// - Parameter content: what the folder holds.
    mutating func passOver(_ folder: String, _ content: ArchiveIndex.Hour) {
        guard passedOver.updateValue(content, forKey: folder) == nil else { return }
        stuck.files += content.files
        stuck.bytes = stuck.bytes.addingSaturated(content.bytes)
        profiles.removeAll { $0.folder == folder }
    }

    /// Whether profiles of an hour are left out.
    func passesOver(_ hour: String) -> Bool { passedOver.keys.contains { $0.hasSuffix("/" + ArchivedFiles.folder(ofHour: hour)) } }

    /// Leaves nothing out any more.
    ///
    /// - Returns: whether anything was left out.
    mutating func beginAgain() -> Bool {
        guard !passedOver.isEmpty else { return false }
        (passedOver, stuck, profiles) = ([:], ArchiveIndex.Hour(), [])
        return true
    }

    private func collect(_ hour: String, _ root: OpenFolder) throws(SystemError) -> [Profile] {
        var oldest: String?
        var found: [String: Profile] = [:]
        try root.visit(hour, until: aborting) { relative, folder, files in
            if passedOver[relative] != nil { return }
            folder.removeLeftovers(among: files)
            // The files are sorted by name, so by time.
            for file in files {
                guard let name = ArchivedName(file), name.hour == hour else { continue }
                let minute = String(name.stem.prefix(Self.minute))
                if let oldest, minute > oldest { break }
                guard let status = try? folder.status(of: file), status.kind == .regular else { continue }
                if minute != oldest { (oldest, found) = (minute, [:]) }
                let key = Archive.join(relative, name.stem)
                var profile = found[key] ?? Profile(folder: relative, stem: name.stem)
                profile.files.insert(file, at: name.isMetadata ? 0 : profile.files.count)
                profile.bytes = profile.bytes.addingReportingOverflow(status.size).partialValue
                found[key] = profile
            }
            if files.isEmpty { root.removeEmpty(relative) }
        }
        return found.values.sorted { Profile.isBefore($1, $0) }
    }
}

extension OpenFolder {
    /// Visits all folders of one hour in an archive, of which this is the root; folders that cannot be opened are skipped.
    ///
    /// - Throws: when descriptors are lacking, when the archive itself cannot be listed, and `ECANCELED` when aborted.
    func visit(
        _ hour: String, until aborting: Flag, _ body: (_ relative: String, _ folder: OpenFolder, _ files: [String]) -> Void
    ) throws(SystemError) {
        let path = ArchivedFiles.folder(ofHour: hour)
        for tenant in try list().folders {
            for service in try passingOver({ () throws(SystemError) in try descend(tenant).list().folders }) ?? [] {
                if aborting.isRaised { throw SystemError("look through \(self.path)", code: ECANCELED) }
                let relative = "\(tenant)/\(service)/\(path)"
                let found = try passingOver { () throws(SystemError) in
                    let folder = try descend(relative)
                    return (folder, try folder.list().files)
                }
                if let found { body(relative, found.0, found.1) }
            }
        }
    }

    private func passingOver<T>(_ body: () throws(SystemError) -> T) throws(SystemError) -> T? {
        do throws(SystemError) { return try body() } catch {
            if error.isLackOfDescriptors { throw error }
            return nil
        }
    }
}
