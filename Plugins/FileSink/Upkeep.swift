import Glibc
import LinuxSystem
import PluginABI
import PluginKit
import ProfileArchive
import Synchronization

/// The maintenance of an archive between deliveries, a little at a time: removes files that a killed process left half-written, and
/// keeps a bounded archive within its bounds. Used by one thread.
struct Upkeep {
    private let archive: Archive
    private let host: GatewayHost
    private let aborting: Flag
    private var retention: Retention?
    /// The walk that removes leftovers in an archive without bounds; in a bounded archive, counting removes them.
    private var sweep: ArchiveWalk?
    private var isSwept = false
    /// No step is made before this time, after one that failed.
    private var pausedUntil = MonotonicTime(nanoseconds: 0)

    /// The most descriptors that stay open between two steps.
    static let descriptors = 1
    private static let pause = Duration.seconds(30)
    private static let foldersPerStep = 64

    /// - Parameter aborting: once raised, no step begins and long searches end early.
    init(_ archive: Archive, _ config: FileSinkConfig, _ host: GatewayHost, _ aborting: Flag) {
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

    /// Does a bounded amount of work.
    ///
    /// - Returns: whether there is more to do at once.
    mutating func step() -> Bool {
        guard pausedUntil <= .now, !aborting.isRaised else { return false }
        return attempt { (upkeep) throws(SystemError) in
            guard upkeep.retention == nil else { return try upkeep.retention?.step() ?? false }
            return try upkeep.sweepSome()
        }
    }

    /// Writes the index for the next run.
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
            // Without bounds the index is not updated, so it is removed before it becomes wrong.
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

/// A flag that one thread raises and others read.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)

    var isRaised: Bool { value.load(ordering: .relaxed) }

    func raise() { value.store(true, ordering: .relaxed) }
}
