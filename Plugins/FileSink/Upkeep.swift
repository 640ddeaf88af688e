import Glibc
import LinuxSystem
import PluginABI
import PluginKit
import ProfileArchive
import Synchronization

/// What is done to an archive between deliveries, a little at a time: files that a killed process left half-written are
/// removed, and where the archive is bounded it is kept within its bounds. Used by one thread.
struct Upkeep {
    private let archive: Archive
    private let host: Host
    private let aborting: Flag
    private var retention: Retention?
    /// The walk for leftovers of an archive without bounds; a bounded one looks for them where it counts.
    private var sweep: ArchiveWalk?
    private var isSwept = false
    /// No step before this time, after one that failed.
    private var pausedUntil = MonotonicTime(nanoseconds: 0)

    /// The most descriptors that are kept open between two steps.
    static let descriptors = 1
    private static let pause = Duration.seconds(30)
    private static let foldersPerStep = 64

    /// - Parameter aborting: once it is raised nothing more is begun, and what goes through many folders ends early.
    init(_ archive: Archive, _ config: FileSinkConfig, _ host: Host, _ aborting: Flag) {
        (self.archive, self.host, self.aborting) = (archive, host, aborting)
        if config.isBounded { retention = Retention(archive, config, host, aborting) }
    }

    mutating func willStore(_ profiles: [Profile]) {
        attempt { (upkeep) throws(SystemError) in
            try upkeep.retention?.willStore(Set(profiles.map { ArchivedFiles.hour($0.receivedAt) }))
            return false
        }
    }

    mutating func stored(_ stored: ArchiveBatch.Stored) { retention?.stored(stored) }

    /// Does a little.
    ///
    /// - Returns: whether there is more to do at once.
    mutating func step() -> Bool {
        guard pausedUntil <= .now, !aborting.isRaised else { return false }
        return attempt { (upkeep) throws(SystemError) in
            guard upkeep.retention == nil else { return try upkeep.retention?.step() ?? false }
            return try upkeep.sweepSome()
        }
    }

    /// Notes what there is, for the next run.
    mutating func end() {
        attempt { (upkeep) throws(SystemError) in
            try upkeep.retention?.end()
            return false
        }
    }

    @discardableResult
    private mutating func attempt(_ body: (inout Self) throws(SystemError) -> Bool) -> Bool {
        do throws(SystemError) { return try body(&self) } catch {
            if pausedUntil <= .now, !aborting.isRaised {
                host.log(.warning, "the archive cannot be kept in order; it is tried again: \(error)")
            }
            pausedUntil = .now + Self.pause
            return false
        }
    }

    private mutating func sweepSome() throws(SystemError) -> Bool {
        guard !isSwept else { return false }
        var walk: ArchiveWalk
        if let sweep {
            walk = sweep
        } else {
            let root: OpenFolder
            do throws(SystemError) { root = try archive.open() } catch {
                guard error.code == ENOENT else { throw error }
                return false
            }
            // What changes from here on is not in it.
            try root.remove(ArchiveIndex.name)
            walk = ArchiveWalk(root)
        }
        for _ in 0..<Self.foldersPerStep {
            guard let found = walk.next() else {
                (isSwept, sweep) = (true, nil)
                return false
            }
            found.folder.removeLeftovers(among: found.files)
        }
        sweep = walk
        return true
    }
}

/// Something that one thread says once and others look at.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)

    var isRaised: Bool { value.load(ordering: .relaxed) }

    func raise() { value.store(true, ordering: .relaxed) }
}
