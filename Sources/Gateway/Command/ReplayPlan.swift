import LinuxSystem
import ProfileArchive

/// What `gateway replay` finds in a folder: the profiles, oldest first, and what belongs to none.
struct ReplayPlan {
    /// The metadata of one profile.
    struct Entry: Equatable {
        /// Relative to the archive; empty for its own directory.
        let folder: String
        let name: String
        /// Relative to the archive.
        var path: String { Archive.join(folder, name) }
    }

    /// A file that cannot be sent.
    struct Stray: Equatable {
        let path: String
        let reason: String
    }

    private(set) var profiles: [Entry] = []
    private var unnamed: [(folder: String, file: String, stem: String)] = []
    private var foreign: [Stray] = []

    /// - Parameter archive: its own folder.
    init(of archive: OpenFolder) {
        var failed: [Stray] = []
        var walk = ArchiveWalk(archive)
        while let step = walk.next(failed: { failed.append(Stray(path: archive.path, reason: "\($0)")) }) { add(step) }
        foreign += failed
        // Names begin with their time, wherever they lie.
        profiles.sort { ($0.name, $0.folder) < ($1.name, $1.folder) }
    }

    private mutating func add(_ step: ArchiveWalk.Step) {
        let names = step.files.map { ($0, ArchivedName($0)) }
        let stems = Set(names.compactMap { $0.1.flatMap { $0.isMetadata ? $0.stem : nil } })
        for (file, name) in names {
            if name?.isMetadata == true {
                profiles.append(Entry(folder: step.relative, name: file))
            } else if let name {
                if !stems.contains(name.stem) { unnamed.append((step.relative, file, name.stem)) }
            } else if !TemporaryName.matches(file), !(step.relative.isEmpty && file == ArchiveIndex.name) {
                foreign.append(Stray(path: step.folder.path(of: file), reason: "no file of an archive"))
            }
        }
    }

    /// What belongs to no profile now: the metadata of one that was being written is there a moment after its payload.
    func strays(_ archive: OpenFolder) -> [Stray] {
        let lost = unnamed.filter { !hasMetadata($0.stem, in: $0.folder, of: archive) }
        let path = { (folder: String, file: String) in archive.path(of: Archive.join(folder, file)) }
        return lost.map { Stray(path: path($0.folder, $0.file), reason: "has no metadata beside it") } + foreign
    }

    /// One that cannot be looked at is as good as none.
    private func hasMetadata(_ stem: String, in folder: String, of archive: OpenFolder) -> Bool {
        (try? archive.descend(folder).status(of: "\(stem).json"))?.kind == .regular
    }
}
