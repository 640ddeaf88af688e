import LinuxSystem
import ProfileArchive

/// The files that `gateway replay` finds in a folder: the profiles, oldest first, and files that belong to no profile.
struct ReplayPlan {
    /// The metadata file of one profile.
    struct Entry: Equatable {
        /// The folder relative to the archive; empty for the root.
        let folder: String
        let name: String
        /// The path relative to the archive.
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

    /// - Parameter archive: the root folder.
    init(of archive: OpenFolder) {
        var failed: [Stray] = []
        var walk = ArchiveWalk(archive)
        while let step = walk.next(failed: { failed.append(Stray(path: archive.path, reason: "\($0)")) }) { add(step) }
        foreign += failed
        // Names begin with the time, so this sorts by time over all folders.
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

    /// The files that belong to no profile; checked again here, because metadata is written a moment after the payload.
    func strays(_ archive: OpenFolder) -> [Stray] {
        let lost = unnamed.filter { !hasMetadata($0.stem, in: $0.folder, of: archive) }
        let path = { (folder: String, file: String) in archive.path(of: Archive.join(folder, file)) }
        return lost.map { Stray(path: path($0.folder, $0.file), reason: "has no metadata beside it") } + foreign
    }

    /// Metadata whose status cannot be read counts as missing.
    private func hasMetadata(_ stem: String, in folder: String, of archive: OpenFolder) -> Bool {
        (try? archive.descend(folder).status(of: "\(stem).json"))?.kind == .regular
    }
}
