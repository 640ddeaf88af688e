import Glibc
import LinuxSystem
import Synchronization
import Telemetry

/// The writing half of the spool; everything here runs on the spool's thread.
final class SpoolJournal {
    let spool: Spool
    var segment: OpenSegment?
    /// The time of the next sync for profiles that were answered before they were durable; never when all are durable, or when
    /// syncing is left to the system.
    var nextSync = MonotonicTime.never
    var nextUpkeep = MonotonicTime.never
    /// The time of the next attempt to copy forward after one that failed.
    var nextCopy = MonotonicTime(nanoseconds: 0)
    /// The syncs that run on ``syncThread``, in their order, with the segments that have the files open.
    var syncs: [(target: OpenSegment, isSealed: Bool)] = []
    var syncsEnded = 0
    let syncThread = Worker<SegmentSync>("spool-sync")
    /// Frees the blocks of removed segments.
    let releaseThread = Worker<RemovedFile>("spool-release")
    /// Settled segments whose files could not be removed yet.
    var unremoved: [UInt64] = []
    private var nextRemoval = MonotonicTime(nanoseconds: 0)
    /// The time of the next check of the data directory and of files that could not be read or removed.
    private var nextLook = MonotonicTime(nanoseconds: 0)
    /// The data directory's generation in which the open segment was created.
    private var generation = 0
    var noteWarnings = LogThrottle()
    /// The flush whose profiles are written, and the number of syncs that have to end before it does; nil when none waits.
    private var flush: (number: Int, syncs: Int)?
    /// Empty arrays for the next work.
    private var spare: (appends: [SpoolAppend], notes: [SpoolNote]) = ([], [])
    /// The `.settled` file that was written to last, and the data directory's generation in which it was opened.
    var settledFile: SettledFile?
    var settledGeneration = 0

    /// The number of attempts at a write, each in a new segment, while room is made or a disk fails.
    private static let attempts = 4
    static let retryTime = Duration.seconds(1)
    private static let removalTime = Duration.seconds(30)
    /// The time since which no descriptor has been free for a new segment; nil while there is no shortage.
    var lacksDescriptorSince: MonotonicTime?
    /// The longest wait of a write for a free descriptor, and the pause between two attempts in microseconds.
    static let descriptorWait = (longest: Duration.seconds(1), step: UInt32(20_000))

    init(_ spool: Spool) {
        self.spool = spool
        generation = spool.folder.directory.generation
    }

    var config: SpoolConfig { spool.config }

    // MARK: The thread

    private struct Work {
        var appends: [SpoolAppend]
        var notes: [SpoolNote]
        var flushes: Int
        var isStopping: Bool
    }

    func run() {
        while true {
            var work = spool.state.wait { step(&$0) }
            takeSyncs()
            // Notes are written first, because a sync takes longer; a profile whose note is lost in a crash is delivered again.
            write(work.notes)
            if !work.appends.isEmpty { store(work.appends) }
            syncIfDue()
            lookAround()
            upkeep()
            endFlush(work.flushes)
            if work.isStopping { return end() }
            work.appends.removeAll(keepingCapacity: work.appends.count <= 256)
            work.notes.removeAll(keepingCapacity: work.notes.count <= 256)
            spare = (work.appends, work.notes)
        }
    }

    /// Ends a flush when the syncs that were begun before it have ended, so that the spool can stop at once after it.
    private func endFlush(_ number: Int) {
        let wanted = flush ?? (number, syncsEnded + syncs.count)
        flush = syncsEnded < wanted.syncs ? wanted : nil
        if flush == nil { spool.state.withLock { $0.flushesDone = wanted.number } }
        spool.state.signal()
    }

    private func end() {
        seal()
        waitForSyncs()
        syncThread.stop()
        releaseThread.stop()
    }

    private func step(_ state: inout Spool.State) -> WaitStep<Work> {
        let now = MonotonicTime.now
        let isFlush = (flush == nil && state.flushesDone < state.flushesWanted) || state.isStopping
        let next = min(state.notesDue, syncs.isEmpty ? nextSync : .never, nextUpkeep, nextLook)
        guard !state.appends.isEmpty || !state.syncResults.isEmpty || isFlush || next <= now else { return .again(next) }
        // Waiting notes are written together with the profiles, even before they are due.
        // The arrays of the last work are used again, which are empty.
        var work = Work(appends: [], notes: [], flushes: state.flushesWanted, isStopping: state.isStopping)
        swap(&work.appends, &spare.appends)
        swap(&work.notes, &spare.notes)
        swap(&work.appends, &state.appends)
        swap(&work.notes, &state.notes)
        (state.pendingBytes, state.notesDue) = (0, .never)
        return .done(work)
    }

    /// Checks the data directory, and retries files that could not be read or removed; once a second.
    private func lookAround() {
        let now = MonotonicTime.now
        guard nextLook <= now else { return }
        nextLook = now + Self.retryTime
        do throws(SystemError) { try find() } catch { return }
        spool.lookAtLate(now: now)
        noteNearlySettled(now: now)
        guard !unremoved.isEmpty, nextRemoval <= now else { return }
        nextRemoval = now + Self.removalTime
        unremoved = unremoved.filter { !spool.folder.remove($0) }
    }

    /// Checks that the data directory is present; when it was opened again as another folder, closes the segment that is open in
    /// the former one.
    private func find() throws(SystemError) {
        try spool.folder.directory.check()
        try spool.listAll()
        let found = spool.folder.directory.generation
        guard found != generation else { return }
        generation = found
        segment?.discardUnpublished()
        seal(isElsewhere: true)
    }

    // MARK: Profiles

    private func store(_ appends: [SpoolAppend]) {
        do throws(SystemError) { try find() } catch {
            for append in appends { append.done(.failure(error.isLackOfDescriptors ? .noDescriptor(error) : .away(error))) }
            return
        }
        // All records of a segment are dated with the same clock difference.
        if spool.clock.hasStepped() { seal() }
        let time = spool.clock.now
        var encoded = appends.map { EncodedAppend($0, time: time) }[...]
        while !encoded.isEmpty {
            let (group, size) = nextGroup(encoded)
            encoded = encoded.dropFirst(group.count)
            finish(group, store(group, size))
        }
    }

    /// Takes as many requests as fit into one segment, to be written and synced together; the profiles of one request are never
    /// split between segments.
    private func nextGroup(_ appends: ArraySlice<EncodedAppend>) -> (group: [EncodedAppend], size: Int) {
        let fresh = config.segmentBytes - Self.largestHeader
        let left = segment.map { config.segmentBytes - $0.size } ?? fresh
        let room = appends.first.map { $0.byteCount <= left ? left : fresh } ?? 0
        var group: [EncodedAppend] = []
        var receivers: [String] = []
        var size = 0
        for append in appends {
            if append.append.receivers != group.last?.append.receivers { receivers.add(append.append.receivers) }
            // A segment's header holds a limited number of receivers; around a reload, waiting requests can name more than that
            // together.
            let fits = size + append.byteCount <= room && receivers.count <= SpoolSegment.maximumReceivers
            guard group.isEmpty || fits else { break }
            size += append.byteCount
            group.append(append)
        }
        return (group, size)
    }

    private static let largestHeader = 4096

    private func finish(_ group: [EncodedAppend], _ result: Result<[SpoolPosition], SpoolFailure>) {
        switch result {
        case .success(let positions):
            var rest = positions[...]
            for item in group {
                item.append.done(.success(Array(rest.prefix(item.profiles.count))))
                rest = rest.dropFirst(item.profiles.count)
            }
        case .failure(let failure): for item in group { item.append.done(.failure(failure)) }
        }
    }

    private func store(_ group: [EncodedAppend], _ size: Int) -> Result<[SpoolPosition], SpoolFailure> {
        let records = group.flatMap(\.records)
        let result = Result { () throws(SpoolFailure) in
            try makeRoom(for: size)
            return try write(records, size)
        }
        switch result {
        case .success: tell(nil)
        case .failure(.noDescriptor): break
        case .failure(let failure): tell(failure)
        }
        return result
    }

    /// Writes records; after a failure retries in a new segment, and evicts the oldest segment when the disk is full.
    private func write(_ records: [EncodedRecord], _ size: Int) throws(SpoolFailure) -> [SpoolPosition] {
        var last = SystemError("write", code: ENOSPC)
        for _ in 0..<Self.attempts {
            do throws(SystemError) { return try write(records, size, synced: config.sync == .always) } catch { last = error }
            if last.isLackOfDescriptors { throw .noDescriptor(last) }
            // The same file is not used again: after a failed sync the kernel may consider the dirty pages written.
            abandon()
            if last.isPassing || (last.code == EIO && !spool.folder.directory.answers()) { throw .away(last) }
            guard last.isLackOfRoom else { continue }
            switch evictOldest() {
            case .freed: continue
            case .refused(let receiver): throw .full(receiver: receiver)
            case .noDescriptor(let error): throw .noDescriptor(error)
            case .nothing: throw .system(last)
            }
        }
        throw .system(last)
    }

    /// Writes records into one segment, syncs them if `synced`, and publishes them.
    func write(_ records: [EncodedRecord], _ size: Int, synced: Bool) throws(SystemError) -> [SpoolPosition] {
        do throws(SystemError) {
            var receivers: [String] = []
            for record in records where record.receivers != receivers { receivers.add(record.receivers) }
            // Of two syncs of one file that run at once, only one is told of a failure.
            if synced, syncs.contains(where: { !$0.isSealed }) { waitForSyncs() }
            let target = try openPatiently(for: receivers, size)
            let entries = try target.write(records)
            if synced { try synchronize(target) } else { noteUnsynced() }
            return publish(entries, in: target)
        } catch {
            if !error.isLackOfDescriptors { spool.writeErrors.add() }
            throw error
        }
    }

    private func publish(_ entries: [IndexEntry], in target: OpenSegment) -> [SpoolPosition] {
        target.writeIndex(entries)
        return spool.state.withLock { state in
            let positions = state.change(target.number) { segment in
                entries.map { entry in
                    defer { segment.add(entry) }
                    return SpoolPosition(
                        segment: target.number, ordinal: UInt32(clamping: segment.count), offset: entry.offset, length: entry.length,
                        share: entry.share)
                }
            }
            return positions ?? []
        }
    }

    /// Records whether profiles can be stored, and logs a change.
    func tell(_ failure: SpoolFailure?) {
        let text = failure.map { failure in
            switch failure {
            case .full(let receiver): "the spool is full, and receiver \(quotedForPeople(receiver)) does not drop"
            case .system(let error), .away(let error), .noDescriptor(let error): "\(error)"
            }
        }
        let before = spool.state.withLock { state in
            defer { state.failure = text }
            return state.failure
        }
        if let text, before == nil { Log.error("the spool cannot store profiles", ["error": text]) }
        if text == nil, before != nil { Log.info("the spool stores profiles again") }
    }
}

extension [String] {
    /// Adds the names that are not there yet.
    fileprivate mutating func add(_ names: [String]) {
        if isEmpty { return self = names }
        for name in names where !contains(name) { append(name) }
    }
}
