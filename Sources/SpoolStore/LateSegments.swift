import Glibc
import LinuxSystem
import Profiles
import Synchronization
import Telemetry

/// A segment that has a file which could not be read at the start or at the last attempt.
struct LateSegment {
    /// The file's name, and why it cannot be read.
    private(set) var file: String
    private(set) var error = "it has not been looked at yet"
    /// The size of its files on disk.
    private(set) var byteCount = 0
    /// Files given up as unreadable: five attempts in a row ended in EIO while the folder could be read.
    private(set) var lost: Set<SpoolFormat.File> = []
    private(set) var nextLook = MonotonicTime(nanoseconds: 0)
    private var failures = 0
    private var delay = Duration.seconds(1)

    static let mostFailures = 5
    private static let longestDelay = Duration.seconds(30)

    init(_ number: UInt64) { file = SpoolFormat.File.records.name(of: number) }

    /// Records a failed attempt to read the segment.
    ///
    /// - Parameter isFailing: true when the disk fails for this file only.
    /// - Returns: whether the file is given up, and whether there is something new to log: that, or another error than before.
    mutating func fail(
        _ error: UnreadableSegment, isFailing: Bool, byteCount: Int, now: MonotonicTime
    ) -> (isLost: Bool, isNews: Bool) {
        let isNews = "\(error)" != self.error
        failures = !isFailing ? 0 : error.name == file ? failures + 1 : 1
        (file, self.error, self.byteCount) = (error.name, "\(error)", byteCount)
        guard failures < Self.mostFailures else {
            lost.insert(error.file)
            (nextLook, delay, failures) = (now, .seconds(1), 0)
            return (true, true)
        }
        nextLook = now + delay
        delay = min(delay + delay, Self.longestDelay)
        return (false, isNews)
    }
}

/// Facts that the start recorded, against which segments that become readable later are checked for duplicates.
struct StartFacts {
    /// The segments that existed at the start and could be read then or later.
    var segments: Set<UInt64> = []
    /// Sequences of profiles in these segments that the unreadable ones may contain too.
    var sequences: Set<UInt64> = []
    var isSequenceTaken = true
}

/// Handling of segments that cannot be read now: their files are left untouched until they can be read.
extension Spool {
    /// The files that cannot be read now, and the error of each.
    package var unreadable: [(file: String, error: String)] {
        state.withLock { state in state.unreadable.sorted { $0.key < $1.key }.map { ($0.value.file, $0.value.error) } }
    }

    /// Leaves the whole spool untouched until the folder can be listed.
    func leaveAllUntouched(_ error: SystemError) {
        state.withLock { $0.unlisted = error }
        Log.error("the spool cannot be read; it is left as it is and tried again", ["error": "\(error)"])
    }

    /// Lists the folder if the start could not; all segments in it are then read like those that could not be read at the start.
    func listAll() throws(SystemError) {
        guard state.withLock({ $0.unlisted != nil }) else { return }
        let listing: SpoolFolder.Listing
        do throws(SystemError) {
            try folder.finishRemovals()
            listing = try folder.list()
        } catch {
            state.withLock { $0.unlisted = error }
            throw error
        }
        nextNumber.store(listing.nextNumber, ordering: .relaxed)
        state.withLock { state in
            for (number, _) in listing.segments { state.unreadable[number] = LateSegment(number) }
            state.unlisted = nil
        }
        Log.info("the spool can be read", ["segments": "\(listing.segments.count)"])
    }

    /// Leaves a segment untouched, to be read again later; gives its file up once it has failed too often.
    func leaveUntouched(_ error: UnreadableSegment) {
        let isFailing = error.code == EIO && folder.directory.answers()
        let byteCount = folder.byteCount(error.number)
        let (isLost, isNews) = state.withLock { state in
            state.unreadable[error.number, default: LateSegment(error.number)]
                .fail(error, isFailing: isFailing, byteCount: byteCount, now: .now)
        }
        if isLost { return countAsLost(error) }
        guard isNews else { return }
        Log.error("a file of the spool cannot be read; it is left as it is and tried again", ["file": error.name, "error": "\(error)"])
    }

    /// Gives up a file that the disk cannot read; the segment's other files may be enough to recover its records.
    private func countAsLost(_ error: UnreadableSegment) {
        damagedRecords.add()
        Log.error("spool damage", ["what": "a file that the disk does not give back", "file": error.name, "error": "\(error)"])
        if error.file != .records { folder.quarantine(error.name) }
    }

    /// The time of the next attempt to read a segment that could not be read.
    var nextLateLook: MonotonicTime { state.withLock { $0.unreadable.values.map(\.nextLook).min() ?? .never } }

    /// Retries the unreadable segments that are due, and the sequence file; called on the spool's thread.
    func lookAtLate(now: MonotonicTime) {
        let (due, isSequenceTaken) = state.withLock { state in
            (state.unreadable.filter { $0.value.nextLook <= now }.keys.sorted(), state.start.isSequenceTaken)
        }
        for number in due {
            do throws(UnreadableSegment) { try look(at: number) } catch { leaveUntouched(error) }
        }
        if !isSequenceTaken, takeSequence(isAgain: true) { state.withLock { $0.start.isSequenceTaken = true } }
    }

    private func look(at number: UInt64) throws(UnreadableSegment) {
        let (lost, start, others) = state.withLock { state in
            (state.unreadable[number]?.lost ?? [], state.start, Array(state.segments.values))
        }
        var found = try SpoolRecovery.read(folder, segment: number, lost: lost)
        var repeated = start.sequences
        // Records that a failed sync left in this segment were written again to a later one.
        if found.hasUnindexed {
            for other in others where other.number > number {
                repeated.formUnion(try UnreadableSegment.of(number, .index) { () throws(SystemError) in try folder.sequences(in: other) })
            }
        }
        found.settle(repeated, copiedFrom: start.segments)
        takeIn(found, number)
    }

    private func takeIn(_ found: SpoolRecovery, _ number: UInt64) {
        damagedRecords.add(found.damaged)
        ReceivedProfile.continueSequence(after: found.lastSequence)
        let owners = state.withLock { state -> [(client: any SpoolClient, profiles: Int, bytes: Int, shares: ShareUsage)] in
            state.unreadable[number] = nil
            state.start.sequences.formUnion(found.orphans)
            state.superseded.formUnion(found.superseded)
            guard var segment = found.segments.first else { return [] }
            state.start.segments.insert(number)
            (segment.isLate, segment.clockOffset) = (true, clock.first)
            state.segments[number] = segment
            state.order = (state.order + [number]).sorted()
            return segment.header.receivers.indices.compactMap { slot in
                state.clients[segment.header.receivers[slot]].map {
                    ($0, segment.live[slot], segment.liveBytes[slot], segment.shares[slot])
                }
            }
        }
        Log.info("a segment of the spool can be read again", ["segment": SpoolFormat.File.records.name(of: number)])
        for owner in owners where owner.profiles > 0 {
            owner.client.spoolFound(number, profiles: owner.profiles, bytes: owner.bytes, owner.shares)
        }
    }

    /// Reserves the next range of sequences; a file that cannot be read is left unchanged.
    ///
    /// - Parameter isAgain: true when an earlier failure has been logged already.
    func takeSequence(isAgain: Bool = false) -> Bool {
        do throws(SystemError) {
            let root = try folder.directory.root()
            if let status = try root.status(of: SequenceFile.name), status.kind != .regular {
                Log.error("spool damage", ["what": "it is no regular file", "file": SequenceFile.name])
                folder.quarantine(SequenceFile.name, from: root)
            }
            folder.directory.hasSequence(try SequenceFile(root).take())
            return true
        } catch {
            if !isAgain {
                Log.warning(
                    "the sequence file cannot be written; after a restart only the clock makes sequences rise", ["error": "\(error)"])
            }
            return false
        }
    }
}
