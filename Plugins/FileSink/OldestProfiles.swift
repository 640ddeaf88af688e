import Glibc
import LinuxSystem
import ProfileArchive

/// The profiles of the oldest minute of an archive, in the order in which they go. Used by one thread.
///
/// So much is held in memory and no more: an hour may have millions.
struct OldestProfiles {
    struct Profile {
        let folder: String
        let stem: String
        /// The metadata first: what is cut off after it is not sent again by anybody.
        var files: [String] = []
        var bytes = 0

        /// By time, and then in the order of arrival.
        static func isBefore(_ a: Profile, _ b: Profile) -> Bool {
            let times = (a.stem.prefix(minute * 2), b.stem.prefix(minute * 2))
            return (times.0, a.stem.utf8.count, a.stem, a.folder) < (times.1, b.stem.utf8.count, b.stem, b.folder)
        }
    }

    private let aborting: Flag
    private var hour = ""
    /// The first one is the last.
    private var profiles: [Profile] = []
    /// How many bytes of a name tell the minute: `20260131T2359`; twice as many tell the time without its sequence.
    private static let minute = 13

    /// - Parameter aborting: once it is raised a search ends early.
    init(_ aborting: Flag) { self.aborting = aborting }

    /// The oldest profile of an hour; nil when nothing is left of it.
    mutating func first(of hour: String, in root: OpenFolder) throws(SystemError) -> Profile? {
        if hour != self.hour || profiles.isEmpty {
            profiles = try collect(hour, root)
            self.hour = hour
        }
        return profiles.last
    }

    mutating func removeFirst() { _ = profiles.popLast() }

    private func collect(_ hour: String, _ root: OpenFolder) throws(SystemError) -> [Profile] {
        var oldest: String?
        var found: [String: Profile] = [:]
        try root.visit(hour, until: aborting) { relative, folder, files in
            folder.removeLeftovers(among: files)
            // They are sorted by name, so by time.
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
    /// Visits all folders of one hour of an archive, whose own folder this is; what cannot be opened is passed over.
    ///
    /// - Throws: for want of a descriptor, when the archive itself cannot be listed, and `ECANCELED` at an abort.
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
