import Glibc
import LinuxSystem
import Synchronization

/// A record that waits for a receiver.
struct SpooledProfile {
    let position: SpoolPosition
    let sequence: UInt64
    /// When it was accepted, by the clock of its segment in Unix nanoseconds, and how far that is from the monotonic clock.
    let time: Int64
    let clockOffset: Int64
    /// How far it has come, also before a restart.
    var attempt = SpoolAttempt()
}

/// How far a receiver's queue has read: everything before is settled or in the queue's memory.
struct SpoolCursor {
    fileprivate var segment: UInt64 = 0
    /// Whether it reads that segment alone.
    private(set) var isAlone = false
    fileprivate var ordinal = 0
    /// What was settled in the segment before this queue read it.
    fileprivate var ledger: SettledLedger?

    /// The beginning of all.
    init() {}

    /// The beginning of one segment, at whose end it stays.
    init(only segment: UInt64) { (self.segment, isAlone) = (segment, true) }

    /// The only segment that it reads; nil when it reads all but the late ones.
    var only: UInt64? { isAlone ? segment : nil }

    /// True when it has left a segment behind.
    func isPast(_ number: UInt64) -> Bool { segment > number }

    /// Goes behind a record.
    mutating func pass(_ position: SpoolPosition) {
        (segment, ordinal, ledger) = (position.segment, Int(position.ordinal) + 1, nil)
    }
}

/// One receiver's view of the spool.
final class SpoolReceiver: Sendable {
    enum ReadFailure: Error {
        /// The bytes are not those that were written.
        case damaged(String)
        /// It is not there: it was moved.
        case moved
        /// The file is not there, or the disk fails at it, while the folder answers: damage when it stays so.
        case failing(SystemError)
        /// It may be readable later.
        case system(SystemError)
    }

    let spool: Spool
    let name: String
    /// How many records each segment had: copies behind them are known to the queue already.
    private let knownAtStart: [UInt64: UInt32]
    /// Another one may stand in its place: what its queue still tells is not taken any more. Set with the spool's lock held.
    let isDetached = Atomic(false)

    init(_ spool: Spool, _ name: String, knownAtStart: [UInt64: UInt32]) {
        (self.spool, self.name, self.knownAtStart) = (spool, name, knownAtStart)
    }

    var backlog: (profiles: Int, bytes: Int, shares: ShareUsage) { spool.backlog(of: name) }

    func settle(_ position: SpoolPosition) { spool.settle(position, name, by: self) }
    func attempted(_ position: SpoolPosition, _ attempt: SpoolAttempt) { spool.attempted(position, name, attempt, by: self) }

    // MARK: What waits

    /// Reads what follows the cursor, and moves it.
    ///
    /// - Returns: up to `limit` records; none at the end.
    /// - Throws: what keeps it from reading the first of them; the cursor is before it then.
    func next(_ limit: Int, after cursor: inout SpoolCursor) throws(SystemError) -> [SpooledProfile] {
        var found: [SpooledProfile] = []
        do throws(SystemError) { try read(limit, after: &cursor, into: &found) } catch {
            // What the cursor has passed is handed over first.
            if found.isEmpty { throw error }
        }
        return found
    }

    private func read(_ limit: Int, after cursor: inout SpoolCursor, into found: inout [SpooledProfile]) throws(SystemError) {
        while found.count < limit, let segment = spool.segment(for: name, at: cursor) {
            if segment.number != cursor.segment || cursor.ledger == nil {
                if segment.number != cursor.segment { (cursor.segment, cursor.ordinal) = (segment.number, 0) }
                cursor.ledger = try ledger(of: segment)
            }
            let entries = try spool.entries(of: segment, from: cursor.ordinal, limit: max(64, limit))
            guard !entries.isEmpty else {
                // The newest one may grow; the others are done with.
                guard !cursor.isAlone, spool.hasSegment(for: name, after: segment.number) else { break }
                (cursor.segment, cursor.ordinal, cursor.ledger) = (segment.number + 1, 0, nil)
                continue
            }
            take(entries, of: segment, limit, &cursor, &found)
        }
    }

    private func take(
        _ entries: [IndexEntry], of segment: SpoolSegment, _ limit: Int, _ cursor: inout SpoolCursor, _ found: inout [SpooledProfile]
    ) {
        guard let slot = segment.slot(of: name) else { return }
        let superseded = spool.state.withLock { $0.superseded }
        for entry in entries where found.count < limit {
            let ordinal = UInt32(clamping: cursor.ordinal)
            cursor.ordinal += 1
            let isOurs = entry.receivers >> UInt64(slot) & 1 == 1
            // Nothing was copied to a late one since the start.
            let isKnown = entry.isCopy && !segment.isLate && ordinal >= knownAtStart[segment.number] ?? 0
            guard isOurs, !isKnown, cursor.ledger?.isSettled(entry.offset) != true,
                !superseded.contains(RecordPlace(segment: segment.number, offset: entry.offset))
            else { continue }
            let position = SpoolPosition(
                segment: segment.number, ordinal: ordinal, offset: entry.offset, length: entry.length, share: entry.share)
            let attempt = cursor.ledger?.attempts[entry.offset] ?? SpoolAttempt()
            found.append(
                SpooledProfile(
                    position: position, sequence: entry.sequence, time: entry.time, clockOffset: segment.clockOffset, attempt: attempt))
        }
    }

    private func ledger(of segment: SpoolSegment) throws(SystemError) -> SettledLedger {
        guard let slot = segment.slot(of: name), segment.settledSize > 0 else { return SettledLedger([]) }
        return try spool.folder.ledger(of: slot, segment.header)
    }

    // MARK: A record

    /// Reads a profile and checks it.
    func read(_ position: SpoolPosition, sequence: UInt64) throws(ReadFailure) -> Profile {
        var bytes = ByteBuffer()
        do throws(SystemError) {
            // Only what is there is read; the rest is found missing below.
            try spool.folder.open(position.segment, .records).read(Int(position.length), at: Int(position.offset), into: &bytes)
        } catch {
            // One that was let go while we looked is not lost.
            if error.code == ENOENT, !spool.has(position) { throw .moved }
            throw [ENOENT, EIO].contains(error.code) && spool.folder.directory.answers() ? .failing(error) : .system(error)
        }
        do throws(DamagedRecord) {
            return try SpoolRecord.profile(bytes, length: Int(position.length), sequence: sequence) {
                spool.isSalt($0, of: position.segment)
            }.profile
        } catch {
            // Its segment may have been let go while it was read.
            throw spool.has(position) ? .damaged(error.description) : .moved
        }
    }

    /// Counts, names and keeps aside a record that cannot be read.
    func report(_ position: SpoolPosition, _ sequence: UInt64, _ what: String) {
        spool.damagedRecords.add()
        Log.error(
            "spool damage",
            [
                "file": SpoolFormat.File.records.name(of: position.segment), "offset": "\(position.offset)", "size": "\(position.length)",
                "sequence": "\(sequence)", "receiver": name, "what": what,
            ])
        spool.folder.quarantine(position.segment, at: Int(position.offset), count: Int(position.length))
    }
}

extension Spool {
    /// The first segment at a cursor or behind it that a receiver has something in, without its index.
    fileprivate func segment(for receiver: String, at cursor: SpoolCursor) -> SpoolSegment? {
        segment(for: receiver) { cursor.isAlone ? $0.number == cursor.segment : $0.number >= cursor.segment && !$0.isLate }
    }

    private func segment(for receiver: String, where isWanted: (SpoolSegment) -> Bool) -> SpoolSegment? {
        state.withLock { state in
            for candidate in state.order {
                guard var segment = state.segments[candidate], isWanted(segment),
                    let slot = segment.slot(of: receiver), segment.live[slot] > 0
                else { continue }
                segment.entries = nil
                return segment
            }
            return nil
        }
    }

    fileprivate func hasSegment(for receiver: String, after number: UInt64) -> Bool {
        segment(for: receiver) { $0.number > number && !$0.isLate } != nil
    }

    /// Segments that could be read only after the start, in which a receiver has something.
    func lateSegments(for receiver: String) -> [UInt64] {
        state.withLock { state in
            state.order.filter { number in
                guard let segment = state.segments[number], segment.isLate, let slot = segment.slot(of: receiver) else { return false }
                return segment.live[slot] > 0
            }
        }
    }

    fileprivate func has(_ position: SpoolPosition) -> Bool { state.withLock { $0.segments[position.segment] != nil } }

    fileprivate func isSalt(_ salt: UInt64, of segment: UInt64) -> Bool {
        state.withLock { $0.segments[segment]?.header.salt == salt }
    }

    /// A part of a segment's index.
    fileprivate func entries(of segment: SpoolSegment, from ordinal: Int, limit: Int) throws(SystemError) -> [IndexEntry] {
        let inMemory = state.withLock { state -> [IndexEntry]? in
            guard let entries = state.segments[segment.number]?.entries else { return nil }
            return Array(entries[min(ordinal, entries.count)..<min(ordinal + limit, entries.count)])
        }
        if let inMemory { return inMemory }
        let start = segment.indexStart + ordinal * IndexEntry.size
        let count = min(limit, segment.count - ordinal)
        guard count > 0 else { return [] }
        let bytes = try folder.open(segment.number, .index).read(count * IndexEntry.size, at: start)
        var entries: [IndexEntry] = []
        IndexEntry.decode(bytes, from: 0, seed: segment.header.seed) { entry in
            // One that was damaged while we run stands for nobody; the queue's own count shows that something is missing.
            entries.append(entry ?? IndexEntry(offset: 0, length: 0, sequence: 0, time: 0, receivers: 0))
        }
        return entries
    }
}

extension SpoolFolder {
    /// What one receiver has settled in a segment, as its file says.
    func ledger(of slot: Int, _ header: SpoolHeader) throws(SystemError) -> SettledLedger {
        var entries: [SettledEntry] = []
        let file = try open(header.segment, .settled)
        // Its head may have fewer names than that of an index that was put together again.
        let start = try start(of: file, header)
        try SettledEntry.decode(file, from: start, seed: header.seed) { entry in
            if let entry, Int(entry.receiver) == slot { entries.append(entry) }
            return true
        }
        return SettledLedger(entries)
    }
}
