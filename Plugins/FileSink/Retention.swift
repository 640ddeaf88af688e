import Glibc
import LinuxSystem
import PluginABI
import PluginKit
import ProfileArchive

/// Keeps an archive within `max_age`, `max_bytes` and `max_files` by removing the oldest profiles. Used by one thread.
///
/// An ``ArchiveIndex`` in the archive has the files and bytes of each hour. At a start, only the hours that were being changed when
/// the last run was killed are counted again. Without an index everything is counted once, a few folders at a time, and nothing is
/// removed until that is done. Only one instance at a time does this for an archive: the one that has locked its folder.
struct Retention {
    private let archive: Archive
    private let config: FileSinkConfig
    private let host: GatewayHost
    private let metrics: RetentionMetrics
    private let aborting: Flag
    /// The archive's root folder, locked.
    private var root: OpenFolder?
    private var index = ArchiveIndex()
    /// Hours whose numbers in the index may be wrong.
    private var uncounted: Set<String> = []
    /// The walk that counts the whole archive; nil when none is running.
    private var walk: ArchiveWalk?
    private var oldest: OldestProfiles
    /// The oldest hours, of which only profiles are left that could not be removed.
    private var passedOver: Set<String> = []
    /// When profiles that could not be removed are tried again.
    private var nextAttempt = MonotonicTime(nanoseconds: 0)
    private var lastChange: [String: MonotonicTime] = [:]
    private var nextTidying = MonotonicTime(nanoseconds: 0)
    private var nextRecount = MonotonicTime.now + recountInterval
    private var lastRecounted = ""
    /// The time since when another instance has the archive; never once that was logged.
    private var lockedElsewhereSince: MonotonicTime?

    private static let foldersPerStep = 64
    private static let removalsPerStep = 256
    private static let tidyInterval = Duration.seconds(30)
    /// How long an hour must be unchanged until its numbers count as settled.
    private static let settleTime = Duration.seconds(300)
    /// How often one hour is counted again, because other programs may remove files, as `gateway replay --remove` does.
    private static let recountInterval = Duration.seconds(60)
    private static let longestReload = Duration.seconds(60)

    init(_ archive: Archive, _ config: FileSinkConfig, _ host: GatewayHost, _ aborting: Flag) {
        (self.archive, self.config, self.host) = (archive, config, host)
        oldest = OldestProfiles(aborting)
        self.aborting = aborting
        metrics = RetentionMetrics(host)
    }

    // MARK: Stored profiles

    /// Records on disk that hours are about to change.
    mutating func willStore(_ hours: Set<String>) throws(SystemError) {
        for hour in hours { lastChange[hour] = .now }
        guard try take() else { return uncounted.formUnion(hours) }
        try noteChange(of: hours)
    }

    mutating func stored(_ stored: ArchiveBatch.Stored) {
        let hour = stored.files.hour
        // A file that was there before may have been counted already, or not.
        guard root != nil, walk == nil, !stored.isAgain, !uncounted.contains(hour) else {
            uncounted.insert(hour)
            return
        }
        index.add(hour, files: stored.files.names.count, bytes: stored.byteCount)
    }

    // MARK: Steps

    /// Counts or removes a bounded number of files.
    ///
    /// - Returns: whether there is more to do at once.
    mutating func step() throws(SystemError) -> Bool {
        guard try take(), let root else { return false }
        if walk != nil { return try countSome(root) }
        if let hour = uncounted.first {
            try count(hour, root)
            return true
        }
        let isMore = try removeSome(root)
        metrics.holds(bytes: index.total.bytes, files: index.total.files)
        try tidy()
        return isMore
    }

    mutating func end() throws(SystemError) {
        guard let root, walk == nil else { return }
        index.changing = uncounted
        try index.write(to: root, mode: config.modes.file)
        self.root = nil
    }

    /// Locks the archive's folder for this instance, and checks that the archive's path still leads to the locked folder.
    private mutating func take() throws(SystemError) -> Bool {
        let found: OpenFolder
        do throws(SystemError) { found = try archive.open() } catch {
            guard error.code == ENOENT else { throw error }
            return false
        }
        if let root, try root.identity() == found.identity() { return true }
        (root, walk, index, oldest, passedOver) = (nil, nil, ArchiveIndex(), OldestProfiles(aborting), [])
        guard found.lock() else {
            sayThatOthersHaveIt()
            return false
        }
        lockedElsewhereSince = nil
        if let known = try ArchiveIndex.read(from: found) { index = known } else { walk = ArchiveWalk(found) }
        root = found
        uncounted.formUnion(index.changing)
        return true
    }

    /// Logs once that another instance has the archive, but not while the previous instance may still be ending.
    private mutating func sayThatOthersHaveIt() {
        let since = lockedElsewhereSince ?? .now
        lockedElsewhereSince = since
        guard since != .never, since + Self.longestReload <= .now else { return }
        lockedElsewhereSince = .never
        host.log(.warning, "another receiver or process keeps the bounds of \(archive.directory); those of this one do not hold")
    }

    // MARK: Counting

    private mutating func countSome(_ root: OpenFolder) throws(SystemError) -> Bool {
        for _ in 0..<Self.foldersPerStep {
            guard let step = walk?.next() else {
                // Hours stored to meanwhile are counted again, because their files may have been counted already, or not.
                var counted = index
                counted.changing = uncounted
                try counted.write(to: root, mode: config.modes.file)
                (index, walk) = (counted, nil)
                return true
            }
            guard let hour = ArchivedFiles.hour(ofFolder: step.relative) else { continue }
            let found = Self.count(hour, step.folder, step.files)
            if found.files > 0 { index.add(hour, files: found.files, bytes: found.bytes) }
        }
        return true
    }

    private mutating func count(_ hour: String, _ root: OpenFolder) throws(SystemError) {
        var sum = ArchiveIndex.Hour()
        try root.visit(hour, until: aborting) { _, folder, files in
            let found = Self.count(hour, folder, files)
            (sum.files, sum.bytes) = (sum.files + found.files, sum.bytes.addingSaturated(found.bytes))
        }
        index.set(hour, sum.files == 0 ? nil : sum)
        uncounted.remove(hour)
    }

    private static func count(_ hour: String, _ folder: OpenFolder, _ files: [String]) -> ArchiveIndex.Hour {
        folder.removeLeftovers(among: files)
        var sum = ArchiveIndex.Hour()
        for file in files {
            guard ArchivedName(file)?.hour == hour, let status = try? folder.status(of: file), status.kind == .regular else { continue }
            sum.files += 1
            sum.bytes = sum.bytes.addingSaturated(status.size)
        }
        return sum
    }

    // MARK: Removing

    private mutating func removeSome(_ root: OpenFolder) throws(SystemError) -> Bool {
        if nextAttempt <= .now, oldest.beginAgain() { passedOver = [] }
        for _ in 0..<Self.removalsPerStep {
            let hours = passedOver.isEmpty ? index.oldest : index.hours.keys.filter { !passedOver.contains($0) }.min()
            guard let hour = hours, let reason = reason(hour) else { return false }
            guard let profile = try oldest.first(of: hour, in: root) else {
                // The hour has no files left, whatever the index says, or none that can be removed.
                if oldest.passesOver(hour) { passedOver.insert(hour) } else { index.set(hour, nil) }
                continue
            }
            if reason == .maxAge, !isTooOld(profile.stem) { return false }
            do throws(SystemError) { try noteChange(of: [hour]) } catch {
                // A full disk has no room for the record. Without an index the next start counts everything, and removing it needs
                // no room.
                try root.remove(ArchiveIndex.name)
            }
            do throws(SystemError) { try root.removeArchived(profile.files, from: profile.folder) } catch {
                try passOver(profile.folder, hour, root, error)
                continue
            }
            oldest.removeFirst()
            index.add(hour, files: -profile.files.count, bytes: -profile.bytes)
            metrics.removed(reason, bytes: profile.bytes)
        }
        return true
    }

    /// Goes on with younger profiles where a folder's cannot be removed, because they may be of another tenant.
    private mutating func passOver(
        _ relative: String, _ hour: String, _ root: OpenFolder, _ error: SystemError
    ) throws(SystemError) {
        if error.isLackOfDescriptors { throw error }
        if nextAttempt <= .now {
            host.log(.warning, "profiles in \(relative) cannot be removed; others are removed instead, and it is tried again: \(error)")
            nextAttempt = .now + Self.tidyInterval
        }
        let folder = try root.descend(relative)
        oldest.passOver(relative, Self.count(hour, folder, try folder.list().files))
    }

    /// The bound that the archive exceeds; `max_age` when the hour may have profiles that are too old.
    ///
    /// Half of a bound is left to the others, however much there is that cannot be removed.
    private func reason(_ hour: String) -> RetentionMetrics.Reason? {
        let (total, stuck) = (index.total, oldest.stuck)
        if let bytes = config.maxBytes, total.bytes > bytes, total.bytes - stuck.bytes > bytes / 2 { return .maxBytes }
        if let files = config.maxFiles, total.files > files, total.files - stuck.files > files / 2 { return .maxFiles }
        return isTooOld(hour) ? .maxAge : nil
    }

    /// Whether a time, in the form that begins a file name, is older than `max_age`; by a clock that does not jump.
    private func isTooOld(_ time: String) -> Bool {
        guard let age = config.maxAge else { return false }
        return time < ArchivedFiles.time(SteadyTime.unixNanoseconds.subtractingSaturated(age.inNanoseconds))
    }

    // MARK: The index on disk

    /// Records on disk that these hours are changing, unless it is already recorded.
    private mutating func noteChange(of hours: Set<String>) throws(SystemError) {
        for hour in hours { lastChange[hour] = .now }
        guard let root, walk == nil, !hours.isSubset(of: index.changing) else { return }
        var noted = index
        noted.changing.formUnion(hours)
        try noted.write(to: root, mode: config.modes.file)
        index = noted
    }

    private mutating func tidy() throws(SystemError) {
        let now = MonotonicTime.now
        guard let root, nextTidying <= now else { return }
        nextTidying = now + Self.tidyInterval
        lastChange = lastChange.filter { $0.value + Self.settleTime > now }
        let settled = index.changing.filter { lastChange[$0] == nil && !uncounted.contains($0) }
        if !settled.isEmpty {
            index.changing.subtract(settled)
            try index.write(to: root, mode: config.modes.file)
        }
        guard nextRecount <= now else { return }
        nextRecount = now + Self.recountInterval
        let hours = index.hours.keys
        guard let next = hours.filter({ $0 > lastRecounted }).min() ?? hours.min() else { return }
        uncounted.insert(next)
        lastRecounted = next
    }
}
