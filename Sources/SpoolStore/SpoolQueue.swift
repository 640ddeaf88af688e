import Glibc
package import LinuxSystem
package import Profiles
import Synchronization
import Telemetry

/// A record that waits for a receiver, as found in the index.
package struct WaitingRecord {
    package let position: SpoolPosition
    package let sequence: UInt64
    /// The time of acceptance by the segment's clock, Unix nanoseconds, and that clock's difference from the monotonic clock.
    package let time: Int64
    package let clockOffset: Int64
    /// The attempts so far, including those before a restart.
    package var attempt = SpoolAttempt()
}

/// A receiver's reading position in the spool: every record before it is settled or in the queue's memory.
package struct SpoolCursor {
    fileprivate var segment: UInt64 = 0
    /// Whether it reads only the segment ``segment``.
    package private(set) var isAlone = false
    fileprivate var ordinal = 0
    /// The records of the segment that were settled before this queue read it.
    fileprivate var ledger: SettledLedger?

    /// Begins at the oldest segment.
    package init() {}

    /// Begins at the start of one segment, and does not go beyond its end.
    package init(only segment: UInt64) { (self.segment, isAlone) = (segment, true) }

    /// The only segment that it reads; nil for a cursor that reads all segments except the late ones.
    package var only: UInt64? { isAlone ? segment : nil }

    /// True when it has passed the whole segment.
    package func isPast(_ number: UInt64) -> Bool { segment > number }

    /// Moves the cursor to just after a record.
    package mutating func pass(_ position: SpoolPosition) {
        (segment, ordinal, ledger) = (position.segment, Int(position.ordinal) + 1, nil)
    }
}

/// One receiver's view of the spool.
package final class SpoolQueue: Sendable {
    package enum ReadFailure: Error {
        /// The bytes differ from those that were written.
        case damaged(String)
        /// The record's segment no longer exists: its records were copied to another segment, or it was evicted.
        case moved
        /// The file is missing or the disk fails to read it, while the folder can be read; counts as damage if it persists.
        case failing(SystemError)
        /// Another error; the record may be readable later.
        case system(SystemError)
    }

    package let spool: Spool
    package let name: String
    /// The number of records that each segment had when the queue was attached; copies after these are in the queue already.
    private let knownAtStart: [UInt64: UInt32]
    /// True after the queue was detached: its further notes are ignored, because another queue may have the same name. Set with the
    /// spool's lock held.
    let isDetached = Atomic(false)

    init(_ spool: Spool, _ name: String, knownAtStart: [UInt64: UInt32]) {
        (self.spool, self.name, self.knownAtStart) = (spool, name, knownAtStart)
    }

    package var backlog: (profiles: Int, bytes: Int, shares: ShareUsage) { spool.backlog(of: name) }

    package func settle(_ position: SpoolPosition) { spool.settle(position, name, by: self) }
    package func attempted(_ position: SpoolPosition, _ attempt: SpoolAttempt) { spool.attempted(position, name, attempt, by: self) }

    // MARK: Waiting records

    /// Reads the records after the cursor, and moves the cursor.
    ///
    /// - Returns: up to `limit` records; none at the end of the spool.
    /// - Throws: the error that prevented reading the first record; the cursor is then still before it.
    package func next(_ limit: Int, after cursor: inout SpoolCursor) throws(SystemError) -> [WaitingRecord] {
        var found: [WaitingRecord] = []
        do throws(SystemError) { try read(limit, after: &cursor, into: &found) } catch {
            // Records that the cursor has passed are returned first; the next call throws the error.
            if found.isEmpty { throw error }
        }
        return found
    }

    private func read(_ limit: Int, after cursor: inout SpoolCursor, into found: inout [WaitingRecord]) throws(SystemError) {
        while found.count < limit, let segment = spool.segment(for: name, at: cursor) {
            if segment.number != cursor.segment || cursor.ledger == nil {
                if segment.number != cursor.segment { (cursor.segment, cursor.ordinal) = (segment.number, 0) }
                cursor.ledger = try ledger(of: segment)
            }
            let entries = try spool.entries(of: segment, from: cursor.ordinal, limit: max(64, limit))
            guard !entries.isEmpty else {
                // The newest segment may still grow; an older one is finished.
                guard !cursor.isAlone, spool.hasSegment(for: name, after: segment.number) else { break }
                (cursor.segment, cursor.ordinal, cursor.ledger) = (segment.number + 1, 0, nil)
                continue
            }
            collect(entries, of: segment, limit, &cursor, &found)
        }
    }

    private func collect(
        _ entries: [IndexEntry], of segment: SpoolSegment, _ limit: Int, _ cursor: inout SpoolCursor, _ found: inout [WaitingRecord]
    ) {
        guard let slot = segment.slot(of: name) else { return }
        let superseded = spool.state.withLock { $0.superseded }
        for entry in entries where found.count < limit {
            let ordinal = UInt32(clamping: cursor.ordinal)
            cursor.ordinal += 1
            let isOurs = entry.receivers >> UInt64(slot) & 1 == 1
            // Nothing has been copied to a late segment since the start.
            let isKnown = entry.isCopy && !segment.isLate && ordinal >= knownAtStart[segment.number] ?? 0
            guard isOurs, !isKnown, cursor.ledger?.isSettled(entry.offset) != true,
                !superseded.contains(RecordPlace(segment: segment.number, offset: entry.offset))
            else { continue }
            let position = SpoolPosition(
                segment: segment.number, ordinal: ordinal, offset: entry.offset, length: entry.length, share: entry.share)
            let attempt = cursor.ledger?.attempts[entry.offset] ?? SpoolAttempt()
            found.append(
                WaitingRecord(
                    position: position, sequence: entry.sequence, time: entry.time, clockOffset: segment.clockOffset, attempt: attempt))
        }
    }

    private func ledger(of segment: SpoolSegment) throws(SystemError) -> SettledLedger {
        guard let slot = segment.slot(of: name), segment.settledSize > 0 else { return SettledLedger([]) }
        return try spool.folder.ledger(of: slot, segment.header)
    }

    // MARK: Reading a record

    /// Reads a profile and checks it.
    package func read(_ position: SpoolPosition, sequence: UInt64) throws(ReadFailure) -> ReceivedProfile {
        var bytes = ByteBuffer()
        do throws(SystemError) {
            // A file that is too short yields fewer bytes, which is detected below.
            try spool.folder.open(position.segment, .records).read(Int(position.length), at: Int(position.offset), into: &bytes)
        } catch {
            // A segment that was removed meanwhile is not a loss.
            if error.code == ENOENT, !spool.has(position) { throw .moved }
            throw [ENOENT, EIO].contains(error.code) && spool.folder.directory.answers() ? .failing(error) : .system(error)
        }
        do throws(DamagedRecord) {
            return try SpoolRecord.profile(bytes, length: Int(position.length), sequence: sequence) {
                spool.isSalt($0, of: position.segment)
            }.profile
        } catch {
            // The segment may have been removed during the read.
            throw spool.has(position) ? .damaged(error.description) : .moved
        }
    }

    /// Counts and logs a damaged record, and copies its bytes to the quarantine folder.
    package func report(_ position: SpoolPosition, _ sequence: UInt64, _ what: String) {
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
    /// Returns the first segment at or after a cursor in which a receiver has unsettled records, without its index.
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

    /// The late segments in which a receiver has unsettled records.
    package func lateSegments(for receiver: String) -> [UInt64] {
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

    /// Returns up to `limit` entries of a segment's index, from `ordinal` on.
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
            // An entry that was damaged since the start is replaced by one for no receiver; the queue's count reveals the missing
            // record.
            entries.append(entry ?? IndexEntry(offset: 0, length: 0, sequence: 0, time: 0, receivers: 0))
        }
        return entries
    }
}

extension SpoolFolder {
    /// Reads what one receiver has settled in a segment.
    func ledger(of slot: Int, _ header: SpoolHeader) throws(SystemError) -> SettledLedger {
        var entries: [SettledEntry] = []
        let file = try open(header.segment, .settled)
        // The header may have fewer names than that of a reconstructed index.
        let start = try start(of: file, header)
        try SettledEntry.decode(file, from: start, seed: header.seed) { entry in
            if let entry, Int(entry.receiver) == slot { entries.append(entry) }
            return true
        }
        return SettledLedger(entries)
    }
}
