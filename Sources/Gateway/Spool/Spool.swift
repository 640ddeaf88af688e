import Glibc
import LinuxSystem
import Synchronization

/// Profiles of one request on their way into the spool.
struct SpoolAppend: Sendable {
    let profiles: [Profile]
    /// The names of the receivers that are to find them there.
    let receivers: [String]
    /// Called once, on the spool's thread: where they are, or why they are not there; then none of them is.
    let done: @Sendable (Result<[SpoolPosition], SpoolFailure>) -> Void

    var byteCount: Int { profiles.reduce(0) { $0 + $1.byteCount } }

    /// What profiles share in memory, as often as it is written.
    var repeatedByteCount: Int { profiles.reduce(0) { $0 + $1.sharedByteCount } }
    /// The most of it: a Push of a few KiB could else cost the disk half a GiB.
    static let mostRepeated = 16 << 20
}

/// Why profiles were not stored.
enum SpoolFailure: Error, Equatable {
    /// There is no room, and this receiver gives none away.
    case full(receiver: String)
    /// The disk is full, or fails.
    case system(SystemError)
    /// The data directory is away, or the system is short of something: whoever can, comes again.
    case away(SystemError)
    /// The process has no descriptor left; that says nothing about the disk.
    case noDescriptor(SystemError)
}

/// A receiver's queue, as the spool needs it.
protocol SpoolClient: AnyObject, Sendable {
    /// Whether the oldest profiles make room when the spool has none.
    var spoolRule: OnFull { get }
    /// What it has open.
    var spoolOpen: [SpoolPosition] { get }
    /// Who has so little in its queue that others make room first.
    var spoolSpared: Set<ShareKey> { get }
    /// Drops what waits in a segment, but not what is of a share in `spared`; what is open stays.
    func spoolNeedsRoom(in segment: UInt64, sparing spared: Set<ShareKey>)
    /// All that it has not settled in a segment; nil when that is too much to tell.
    func spoolPositions(in segment: UInt64) -> [SpoolPosition]?
    /// Takes the new places of records, by their old offset.
    ///
    /// - Returns: those that it has settled meanwhile.
    func spoolMoved(from segment: UInt64, _ places: [UInt32: SpoolPosition]) -> [SpoolPosition]
    /// Takes note of a segment that could be read only now, with so much that it has not settled.
    func spoolFound(_ segment: UInt64, profiles: Int, bytes: Int, _ shares: ShareUsage)
}

/// The journal on disk that the receivers' queues are cursors into: a profile is written once, however many receivers it has.
///
/// One thread writes; everything that waits is synced together. Its format is written down in
/// `docs/spool-format.md`.
final class Spool: Sendable {
    struct State {
        var segments: [UInt64: SpoolSegment] = [:]
        /// Their numbers, rising.
        var order: [UInt64] = []
        var active: UInt64?
        var appends: [SpoolAppend] = []
        var pendingBytes = 0
        var notes: [SpoolNote] = []
        var notesDue = MonotonicTime.never
        var clients: [String: any SpoolClient] = [:]
        /// Records that the start found to be there twice: whatever their files say, they are nobody's.
        var superseded: Set<RecordPlace> = []
        /// Segments of which a file cannot be read, by number: they are left as they are and looked at again.
        var unreadable: [UInt64: LateSegment] = [:]
        /// Why it is not known yet what there is: before that nothing is stored.
        var unlisted: SystemError?
        /// What the start knew when it could not read them.
        var start = StartFacts()
        /// Why the last profiles could not be stored.
        var failure: String?
        var isStopping = false
        /// Work that was handed in, and how much of it is done: for those who wait until all of it is.
        var flushesWanted = 0
        var flushesDone = 0
    }

    let config: SpoolConfig
    let folder: SpoolFolder
    let state = Monitor(State())
    let syncTime = Histogram()
    let writeErrors = Counter()
    let damagedRecords = Counter()
    let clock: SpoolClock
    private let pendingLimit: Int
    private let thread = Mutex<Thread?>(nil)

    convenience init(dataDirectory: String, _ config: SpoolConfig, pendingLimit: Int) throws(SpoolRecovery.Refusal) {
        try self.init(DataDirectory(dataDirectory), config, pendingLimit: pendingLimit)
    }

    /// Opens the spool in a data directory, making what is not there, and takes it for this process alone.
    ///
    /// - Parameters:
    ///   - pendingLimit: the most bytes that may wait to be written.
    ///   - clock: what profiles are dated by.
    init(
        _ directory: DataDirectory, _ config: SpoolConfig, pendingLimit: Int, clock: SpoolClock = SpoolClock()
    ) throws(SpoolRecovery.Refusal) {
        folder = SpoolFolder(directory)
        (self.pendingLimit, self.clock) = (pendingLimit, clock)
        do throws(SystemError) {
            try directory.make()
            self.config = try config.fitted(to: directory.root())
        } catch { throw SpoolRecovery.Refusal(description: "data_dir cannot be used: \(error)") }
        try directory.takeLock()
        take(try SpoolRecovery(folder, mayWrite: true))
    }

    private func take(_ recovery: SpoolRecovery) {
        damagedRecords.add(recovery.damaged)
        Profile.continueSequence(after: recovery.lastSequence)
        let isSequenceTaken = takeSequence()
        state.withLock { state in
            for var segment in recovery.segments {
                segment.clockOffset = clock.first
                // What is written now stands before it, and a cursor that has passed it would never come back.
                segment.isLate = segment.number > SpoolFormat.largestNumber
                state.segments[segment.number] = segment
            }
            state.order = recovery.segments.map(\.number)
            state.superseded = recovery.superseded
            state.start = StartFacts(segments: Set(state.order), sequences: recovery.orphans, isSequenceTaken: isSequenceTaken)
        }
        nextNumber.store(recovery.nextNumber, ordering: .relaxed)
        if let error = recovery.unlisted { leaveAll(error) }
        for error in recovery.unreadable { leave(error) }
    }

    /// The number of the next segment.
    let nextNumber = Atomic<UInt64>(1)

    // MARK: Life

    /// Starts the thread that writes.
    func start() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("spool") { [self] in SpoolJournal(self).run() }
        }
    }

    /// Writes what waits and ends the thread.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.signal()
        thread.withLock { $0.take()?.join() }
        // They hold the spool.
        state.withLock { $0.clients = [:] }
    }

    /// Waits until what was handed in before is written and its senders are answered, at most until `deadline`.
    func flush(until deadline: MonotonicTime = .never) {
        let wanted = state.withLock { state in
            state.flushesWanted += 1
            return state.flushesWanted
        }
        state.signal()
        state.wait { $0.flushesDone >= wanted || $0.isStopping || MonotonicTime.now >= deadline ? .done(()) : .again(deadline) }
    }

    // MARK: In

    /// Hands profiles in, from any thread.
    ///
    /// - Returns: false when too much waits already; nothing is called then.
    func append(_ append: SpoolAppend) -> Bool {
        let isFirst = state.withLock { state -> Bool? in
            guard state.pendingBytes <= pendingLimit, !state.isStopping else { return nil }
            state.appends.append(append)
            state.pendingBytes += append.byteCount
            return state.appends.count == 1
        }
        if isFirst == true { state.signal() }
        return isFirst != nil
    }

    /// Why profiles cannot be stored just now.
    var failure: String? { folder.directory.absence ?? state.withLock { $0.unlisted.map { "\($0)" } ?? $0.failure } }

    // MARK: Receivers

    /// Makes a receiver's queue known, from the oldest record that it has not settled.
    func attach(_ receiver: String, _ client: any SpoolClient) -> SpoolReceiver {
        state.withLock { state in
            state.clients[receiver] = client
            let ends = Dictionary(uniqueKeysWithValues: state.segments.map { ($0.key, UInt32(clamping: $0.value.count)) })
            return SpoolReceiver(self, receiver, knownAtStart: ends)
        }
    }

    /// Whether a receiver of that name has its queue here.
    func hasClient(_ receiver: String) -> Bool { state.withLock { $0.clients[receiver] != nil } }

    /// Forgets a queue; what it has not settled stays.
    func detach(_ reader: SpoolReceiver, _ client: any SpoolClient) {
        state.withLock { state in
            reader.isDetached.store(true, ordering: .relaxed)
            if state.clients[reader.name] === client { state.clients[reader.name] = nil }
        }
        flush()
    }

    /// How much a receiver has not settled, and whose that is.
    func backlog(of receiver: String) -> (profiles: Int, bytes: Int, shares: ShareUsage) {
        state.withLock { state in
            state.segments.values.reduce(into: (0, 0, ShareUsage())) { sum, segment in
                guard let slot = segment.slot(of: receiver) else { return }
                sum.0 += segment.live[slot]
                sum.1 += segment.liveBytes[slot]
                sum.2.add(segment.shares[slot])
            }
        }
    }

    /// Receivers that have something here and no queue, as after a change of the config.
    var strangers: [(receiver: String, profiles: Int)] {
        let names = state.withLock { state in
            Set(state.segments.values.flatMap(\.header.receivers)).subtracting(state.clients.keys)
        }
        return names.sorted().map { ($0, backlog(of: $0).profiles) }.filter { $0.1 > 0 }
    }

    /// How much is on disk.
    var size: (segments: Int, bytes: Int) { state.withLock { ($0.segments.count, $0.byteCount) } }
}

extension Spool.State {
    var byteCount: Int { segments.values.reduce(0) { $0 + $1.byteCount } + unreadable.values.reduce(0) { $0 + $1.byteCount } }
}

extension SpoolConfig {
    /// Small file systems get small segments, for room is made by the segment.
    fileprivate func fitted(to folder: OpenFolder) throws(SystemError) -> SpoolConfig {
        let total = try folder.space().total
        var config = self
        config.minFreeBytes = reserve(of: total)
        config.segmentBytes = min(segmentBytes, max(64 << 10, min(total, maxBytes ?? .max) / 16))
        return config
    }
}
