import LinuxSystem
import ProfileArchive

/// What `gateway replay` finds in a folder: the profiles, oldest first, and what belongs to none.
struct ReplayPlan {
    /// The metadata of one profile.
    struct Entry: Equatable {
        /// Relative to the archive; empty for its own directory.
        let folder: String
        let name: String
    }

    /// A file that cannot be sent.
    struct Stray: Equatable {
        let path: String
        let reason: String
    }

    private(set) var profiles: [Entry] = []
    private var unnamed: [(folder: String, file: String, stem: String)] = []
    private var foreign: [Stray] = []

    init(of archive: Archive) {
        var failed: [Stray] = []
        archive.walk(failed: { failed.append(Stray(path: archive.directory, reason: "\($0)")) }) { folder, files in
            add(files, in: folder, of: archive)
            return true
        }
        foreign += failed
        // Names begin with their time, wherever they lie.
        profiles.sort { ($0.name, $0.folder) < ($1.name, $1.folder) }
    }

    private mutating func add(_ files: [String], in folder: String, of archive: Archive) {
        let names = files.map { ($0, ArchivedName($0)) }
        let stems = Set(names.compactMap { $0.1.flatMap { $0.isMetadata ? $0.stem : nil } })
        for (file, name) in names {
            if name?.isMetadata == true {
                profiles.append(Entry(folder: folder, name: file))
            } else if let name {
                if !stems.contains(name.stem) { unnamed.append((folder, file, name.stem)) }
            } else if !TemporaryName.matches(file) {
                foreign.append(Stray(path: archive.path(file, in: folder), reason: "no file of an archive"))
            }
        }
    }

    /// What belongs to no profile now: the metadata of one that was being written is there a moment after its payload.
    func strays(_ archive: Archive) -> [Stray] {
        // One that cannot be looked at is as good as none.
        let lost = unnamed.filter { (try? archive.status(of: "\($0.stem).json", in: $0.folder))?.kind != .regular }
        return lost.map { Stray(path: archive.path($0.file, in: $0.folder), reason: "has no metadata beside it") } + foreign
    }
}
