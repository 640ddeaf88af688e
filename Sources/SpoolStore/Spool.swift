import Glibc
package import LinuxSystem
package import Profiles
import Synchronization
import Telemetry

/// The profiles of one request, to be written to the spool.
package struct SpoolAppend: Sendable {
    let profiles: [ReceivedProfile]
    /// The names of the receivers that the profiles are for.
    let receivers: [String]
    /// Called once, on the spool's thread, with the positions of all profiles, or with the reason why none of them was stored.
    let done: @Sendable (Result<[SpoolPosition], SpoolFailure>) -> Void

    package init(
        profiles: [ReceivedProfile], receivers: [String], done: @escaping @Sendable (Result<[SpoolPosition], SpoolFailure>) -> Void
    ) {
        (self.profiles, self.receivers, self.done) = (profiles, receivers, done)
    }

    var byteCount: Int { profiles.reduce(0) { $0 + $1.byteCount } }

    /// The bytes that the profiles share in memory, counted once for each profile, because each record gets a copy.
    package var repeatedByteCount: Int { profiles.reduce(0) { $0 + $1.sharedByteCount } }
    /// The limit for ``repeatedByteCount``; without it a Push of a few KiB could make the spool write half a GiB.
    package static let mostRepeated = 16 << 20
}

/// Why profiles were not stored.
package enum SpoolFailure: Error, Equatable {
    /// The spool is full, and this receiver does not drop its profiles.
    case full(receiver: String)
    /// The disk is full or fails.
    case system(SystemError)
    /// The data directory is away, or a resource of the system is exhausted for now: the sender should retry.
    case away(SystemError)
    /// The process has no free descriptor, which says nothing about the disk.
    case noDescriptor(SystemError)
}

/// The interface of a receiver's queue to the spool.
package protocol SpoolClient: AnyObject, Sendable {
    /// Whether the receiver's oldest profiles are dropped when the spool has no room.
    var spoolRule: OnFull { get }
    /// The records of the open deliveries.
    var spoolOpen: [SpoolPosition] { get }
    /// The shares with less than an equal part of the queue, which are spared while larger ones can make room.
    var spoolSpared: Set<ShareKey> { get }
    /// Drops the profiles that wait in a segment, except open ones and those of a share in `spared`.
    func spoolNeedsRoom(in segment: UInt64, sparing spared: Set<ShareKey>)
    /// Returns all records of a segment that it has not settled; nil when they are too many for memory, or cannot all be read.
    func spoolPositions(in segment: UInt64) -> [SpoolPosition]?
    /// Takes the new positions of copied records, by their old offset.
    ///
    /// - Returns: the new positions of records that it has settled meanwhile.
    func spoolMoved(from segment: UInt64, _ places: [UInt32: SpoolPosition]) -> [SpoolPosition]
    /// Adds a segment that could not be read before, with the number, bytes and shares of the profiles that it has not settled.
    func spoolFound(_ segment: UInt64, profiles: Int, bytes: Int, _ shares: ShareUsage)
}

/// The journal on disk that the receivers' queues are cursors into: a profile is written once, however many receivers it has.
///
/// One thread writes; all waiting requests are synced together. The format is described in `docs/spool-format.md`.
package final class Spool: Sendable {
    struct State {
        var segments: [UInt64: SpoolSegment] = [:]
        /// The numbers of the segments, rising.
        var order: [UInt64] = []
        var active: UInt64?
        var appends: [SpoolAppend] = []
        var pendingBytes = 0
        var notes: [SpoolNote] = []
        var notesDue = MonotonicTime.never
        var clients: [String: any SpoolClient] = [:]
        /// Records whose profile the start found in another record too; they are ignored, whatever their files say.
        var superseded: Set<RecordPlace> = []
        /// Segments that have an unreadable file, by number; they are left untouched and read again later.
        var unreadable: [UInt64: LateSegment] = [:]
        /// The error why the folder could not be listed; nothing is stored until it can be.
        var unlisted: SystemError?
        /// Facts of the start that segments which become readable later are checked against.
        var start = StartFacts()
        /// The error why the last profiles could not be stored; nil when they were.
        var failure: String?
        /// The results of syncs on the other thread, until the spool's thread takes them.
        var syncResults: [SegmentSync.Result] = []
        var isStopping = false
        /// Counters of requested and completed flushes, for callers of ``isFlushed(_:until:)``.
        var flushesWanted = 0
        var flushesDone = 0
    }

    let config: SpoolConfig
    let folder: SpoolFolder
    /// The last lock in the order: it may be taken while ``Receiver/state`` is held, and no receiver is called while it is held; see
    /// docs/architecture.md.
    let state = Monitor(State())
    /// The bytes of removed segments that are being freed on another thread.
    let freeing = Monitor(0)
    let syncTime = Histogram()
    let writeErrors = Counter()
    let damagedRecords = Counter()
    let clock: SpoolClock
    private let pendingLimit: Int
    private let thread = Mutex<Thread?>(nil)

    convenience init(dataDirectory: String, _ config: SpoolConfig, pendingLimit: Int) throws(SpoolRecovery.Refusal) {
        try self.init(DataDirectory(dataDirectory), config, pendingLimit: pendingLimit)
    }

    /// Opens the spool in a data directory, creates what is missing, and takes the directory's lock.
    ///
    /// - Parameters:
    ///   - pendingLimit: the most bytes that may wait to be written.
    ///   - clock: the clock that profiles are dated by.
    package init(
        _ directory: DataDirectory, _ config: SpoolConfig, pendingLimit: Int, clock: SpoolClock = SpoolClock()
    ) throws(SpoolRecovery.Refusal) {
        folder = SpoolFolder(directory)
        (self.pendingLimit, self.clock) = (pendingLimit, clock)
        do throws(SystemError) {
            try directory.make()
            self.config = try config.fitted(to: directory.root())
        } catch { throw SpoolRecovery.Refusal(description: "data_dir cannot be used: \(error)") }
        try directory.takeLock()
        adopt(try SpoolRecovery.read(folder, mayWrite: true))
    }

    private func adopt(_ recovery: SpoolRecovery) {
        damagedRecords.add(recovery.damaged)
        ReceivedProfile.continueSequence(after: recovery.lastSequence)
        let isSequenceTaken = takeSequence()
        state.withLock { state in
            for var segment in recovery.segments {
                segment.clockOffset = clock.first
                // New segments get smaller numbers than this one, and a cursor that has passed it would not go back to them.
                segment.isLate = segment.number > SpoolFormat.largestNumber
                state.segments[segment.number] = segment
            }
            state.order = recovery.segments.map(\.number)
            state.superseded = recovery.superseded
            state.start = StartFacts(segments: Set(state.order), sequences: recovery.orphans, isSequenceTaken: isSequenceTaken)
        }
        nextNumber.store(recovery.nextNumber, ordering: .relaxed)
        if let error = recovery.unlisted { leaveAllUntouched(error) }
        for error in recovery.unreadable { leaveUntouched(error) }
    }

    /// The number of the next segment to be created.
    let nextNumber = Atomic<UInt64>(1)

    // MARK: Starting and stopping

    /// Starts the thread that writes.
    package func start() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("spool") { [self] in SpoolJournal(self).run() }
        }
    }

    /// Writes the waiting profiles and notes, and ends the thread.
    package func stop() {
        state.withLock { $0.isStopping = true }
        state.signal()
        thread.withLock { $0.take()?.join() }
        // The clients hold references to the spool.
        state.withLock { $0.clients = [:] }
    }

    /// Requests that everything appended before is written and its senders are answered.
    ///
    /// - Returns: the number of this flush, for ``isFlushed(_:until:)``.
    package func requestFlush() -> Int {
        defer { state.signal() }
        return state.withLock { state in
            state.flushesWanted += 1
            return state.flushesWanted
        }
    }

    /// Waits until a flush has ended, at most until `deadline`.
    ///
    /// - Returns: false when it has not; true also when the spool is stopping.
    package func isFlushed(_ flush: Int, until deadline: MonotonicTime) -> Bool {
        state.wait(until: deadline) { $0.flushesDone >= flush || $0.isStopping }
    }

    /// Waits until everything appended before is written and its senders are answered, however long the disk takes.
    package func flush() { _ = isFlushed(requestFlush(), until: .never) }

    // MARK: Appending

    /// Queues profiles to be written; callable from any thread.
    ///
    /// - Returns: false when too many bytes wait already, or the spool is stopping; `done` is not called then.
    package func append(_ append: SpoolAppend) -> Bool {
        let isFirst = state.withLock { state -> Bool? in
            guard state.pendingBytes <= pendingLimit, !state.isStopping else { return nil }
            state.appends.append(append)
            state.pendingBytes += append.byteCount
            return state.appends.count == 1
        }
        if isFirst == true { state.signal() }
        return isFirst != nil
    }

    /// The reason why profiles cannot be stored at present; nil when they can.
    package var failure: String? { folder.directory.absence ?? state.withLock { $0.unlisted.map { "\($0)" } ?? $0.failure } }

    // MARK: Receivers

    /// Registers a receiver's queue, and returns its view of the spool.
    package func attach(_ receiver: String, _ client: any SpoolClient) -> SpoolQueue {
        state.withLock { state in
            state.clients[receiver] = client
            let ends = Dictionary(uniqueKeysWithValues: state.segments.map { ($0.key, UInt32(clamping: $0.value.count)) })
            return SpoolQueue(self, receiver, knownAtStart: ends)
        }
    }

    /// Whether a queue of a receiver with this name is registered.
    package func hasClient(_ receiver: String) -> Bool { state.withLock { $0.clients[receiver] != nil } }

    /// Removes a queue's registration; the profiles that it has not settled stay in the spool.
    package func detach(_ reader: SpoolQueue, _ client: any SpoolClient) {
        state.withLock { state in
            reader.isDetached.store(true, ordering: .relaxed)
            if state.clients[reader.name] === client { state.clients[reader.name] = nil }
        }
        flush()
    }

    /// The number, bytes and shares of the profiles that a receiver has not settled.
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

    /// Receivers that have profiles in the spool but no queue, for example after a change of the config.
    package var strangers: [(receiver: String, profiles: Int)] {
        let names = state.withLock { state in
            Set(state.segments.values.flatMap(\.header.receivers)).subtracting(state.clients.keys)
        }
        return names.sorted().map { ($0, backlog(of: $0).profiles) }.filter { $0.1 > 0 }
    }

    /// The number of segments and their bytes on disk.
    package var size: (segments: Int, bytes: Int) { state.withLock { ($0.segments.count, $0.byteCount) } }
}

extension Spool.State {
    /// Changes a segment in place; nil when there is none of that number. A change through the dictionary's subscript would
    /// allocate memory for its coroutines.
    @discardableResult
    mutating func change<R>(_ number: UInt64, _ body: (inout SpoolSegment) -> R) -> R? {
        guard var segment = segments.removeValue(forKey: number) else { return nil }
        defer { segments[number] = segment }
        return body(&segment)
    }

    var byteCount: Int { segments.values.reduce(0) { $0 + $1.byteCount } + unreadable.values.reduce(0) { $0 + $1.byteCount } }
}

extension SpoolConfig {
    /// Returns the config with smaller segments for small file systems, because room is made by whole segments.
    fileprivate func fitted(to folder: OpenFolder) throws(SystemError) -> SpoolConfig {
        let total = try folder.space().total
        var config = self
        // Some file systems do not tell their size, and then how much is free neither.
        config.minFreeBytes = total > 0 ? reserve(of: total) : nil
        config.segmentBytes = min(segmentBytes, max(64 << 10, min(total > 0 ? total : .max, maxBytes ?? .max) / 16))
        return config
    }
}
