import Glibc
import LinuxSystem
import Telemetry

/// The contents of the spool at a start: the segments that still hold unsettled records, the damage found, and the segments that
/// cannot be read now.
///
/// Records are not read: the indexes contain their positions, and each record is checked when it is delivered. Only records that an
/// index does not know, or those of a damaged index, are searched for in the records file. A segment with a file that cannot be
/// opened or read is left untouched as a whole, because it may be neither empty nor settled.
package struct SpoolRecovery {
    private(set) var segments: [SpoolSegment] = []
    /// Segments that are left untouched, to be read again later.
    private(set) var unreadable: [UnreadableSegment] = []
    /// The error why the folder could not be listed; nil when it could.
    private(set) var unlisted: SystemError?
    private(set) var damaged = 0
    private(set) var lastSequence: UInt64 = 0
    /// The number of the next segment to be created.
    private(set) var nextNumber: UInt64 = 1

    private let folder: SpoolFolder
    /// Whether files are repaired; false for commands that only read, perhaps while a gateway runs.
    private let mayWrite: Bool
    /// True when a gateway is running and writes to the newest segment.
    private let isRunning: Bool
    private let isLate: Bool
    /// The unsettled records of the segment that is read late, with the receivers that still need each.
    private var waiting: [IndexEntry] = []
    /// Records that are ignored, because another record has the same profile.
    private(set) var superseded: Set<RecordPlace> = []
    /// Unsettled records that were copied from another segment, which may still exist after a crash, with the receivers that still
    /// need each.
    private var copies: [(segment: Int, entry: IndexEntry)] = []
    /// Sequences of profiles that a segment which cannot be read now may contain too.
    var orphans: Set<UInt64> { Set(unindexed.keys).union(copies.map(\.entry.sequence)) }

    /// Records that no index contained, by sequence: they may be left by a failed sync, after which they were written again to a
    /// later segment.
    private var unindexed: [UInt64: (segment: Int, entry: IndexEntry)] = [:]

    /// The reason why the spool is not used and left untouched.
    package struct Refusal: Error, CustomStringConvertible {
        package let description: String
    }

    private init(_ folder: SpoolFolder, mayWrite: Bool, isRunning: Bool, isLate: Bool) {
        (self.folder, self.mayWrite, self.isRunning, self.isLate) = (folder, mayWrite, isRunning, isLate)
    }

    /// Reads the whole spool, and repairs it when `mayWrite` is true.
    ///
    /// - Parameter isRunning: true when another process writes to the spool.
    /// - Throws: ``Refusal`` for files of a later version; and, when `mayWrite` is false, if the folder cannot be listed.
    static func read(_ folder: SpoolFolder, mayWrite: Bool, isRunning: Bool = false) throws(Refusal) -> SpoolRecovery {
        var recovery = SpoolRecovery(folder, mayWrite: mayWrite, isRunning: isRunning, isLate: false)
        try recovery.readAll()
        return recovery
    }

    /// Reads again one segment that could not be read before.
    ///
    /// - Parameter lost: files given up as unreadable.
    static func read(
        _ folder: SpoolFolder, segment number: UInt64, lost: Set<SpoolFormat.File>
    ) throws(UnreadableSegment) -> SpoolRecovery {
        var recovery = SpoolRecovery(folder, mayWrite: true, isRunning: false, isLate: true)
        try recovery.readSegment(number, lost: lost)
        return recovery
    }

    private mutating func readAll() throws(Refusal) {
        let listing: SpoolFolder.Listing
        do throws(SystemError) {
            if mayWrite { try folder.finishRemovals() }
            listing = try folder.list()
        } catch {
            guard mayWrite else { throw Refusal(description: "the spool cannot be read: \(error)") }
            unlisted = error
            return
        }
        nextNumber = listing.nextNumber
        var parts: [SegmentParts] = []
        for (number, files) in listing.segments {
            do throws(UnreadableSegment) { parts.append(try SegmentParts(number, files, folder)) } catch {
                if case .newer = error.reason { throw Refusal(description: "\(error)") }
                unreadable.append(error)
            }
        }
        // Nothing is changed before it is known that no file is of a later version.
        for name in listing.names where mayWrite { setAside(name) }
        for part in parts { recover(part) }
        dropCopies()
    }

    private mutating func readSegment(_ number: UInt64, lost: Set<SpoolFormat.File>) throws(UnreadableSegment) {
        let listing = try UnreadableSegment.of(number, .records) { () throws(SystemError) in try folder.list() }
        for name in listing.special where SpoolFormat.File.parse(name)?.segment == number { setAside(name) }
        guard let files = listing.segments.first(where: { $0.number == number })?.files else { return }
        recover(try SegmentParts(number, files, folder, lost: lost))
        if let error = unreadable.first { throw error }
    }

    private mutating func setAside(_ name: String) {
        guard mayWrite else { return }
        if SpoolFolder.isUnfinished(name) || SpoolFolder.removed(name) != nil {
            do throws(SystemError) { return try folder.directory.spool().remove(name) } catch {
                return Log.warning("a file of the spool cannot be removed", ["file": name, "error": "\(error)"])
            }
        }
        report("it is no file of the spool", ["file": name])
        folder.quarantine(name)
    }

    private mutating func report(_ what: String, _ fields: KeyValuePairs<String, String>) {
        damaged += 1
        guard mayWrite else { return }
        let details = fields.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        Log.error("spool damage", ["what": what, "where": details])
    }

    // MARK: Reading a segment

    private mutating func recover(_ parts: SegmentParts) {
        do throws(UnreadableSegment) {
            guard var repair = try SegmentRepair(parts) else { return try setAside(parts) }
            let (entries, indexed) = try repair.entries(isGrowing: isRunning && parts.number + 1 == nextNumber)
            let ledgers = try parts.ledgers(repair.header)
            // Everything has been read by here, so changes to the disk may begin.
            for region in repair.damage.prefix(Self.mostTold) { tell(of: region, in: parts.number) }
            if repair.damage.count > Self.mostTold { tell(of: repair.damage.dropFirst(Self.mostTold), in: parts.number) }
            // Without a valid header its entries cannot be assigned to receivers.
            if parts.losesSettled(repair.header) {
                setAside(SpoolFormat.File.settled.name(of: parts.number))
            }
            add(repair.header, entries, ledgers, indexed: indexed)
        } catch { unreadable.append(error) }
    }

    private mutating func tell(of region: Range<Int>, in segment: UInt64) {
        report(
            "bytes that are no record",
            ["file": SpoolFormat.File.records.name(of: segment), "offset": "\(region.lowerBound)", "size": "\(region.count)"])
        if mayWrite { folder.quarantine(segment, at: region.lowerBound, count: region.count) }
    }

    /// The most damaged regions of a segment that are logged and copied one by one; the rest are logged together and not copied,
    /// because a file may have a million.
    private static let mostTold = 100

    private mutating func tell(of rest: ArraySlice<Range<Int>>, in segment: UInt64) {
        damaged += rest.count - 1
        let size = rest.reduce(0) { $0 + $1.count }
        report(
            "bytes that are no record, in further places",
            ["file": SpoolFormat.File.records.name(of: segment), "places": "\(rest.count)", "size": "\(size)"])
    }

    /// Moves files that are no valid segment to the quarantine folder; empty ones, which a crash leaves of a new segment, are
    /// removed.
    private mutating func setAside(_ parts: SegmentParts) throws(UnreadableSegment) {
        guard mayWrite else { return }
        if parts.recordsSize == 0, try parts.size(.index) == 0 {
            folder.remove(parts.number)
            return
        }
        report("a segment without a head or a record", ["segment": SpoolFormat.File.records.name(of: parts.number)])
        for file in parts.files { folder.quarantine(file.name(of: parts.number)) }
    }

    private mutating func add(
        _ header: SpoolHeader, _ entries: [IndexEntry], _ settled: (ledgers: [SettledLedger], size: Int), indexed: Int
    ) {
        var ledgers = settled.ledgers
        let index = segments.count
        segments.append(SpoolSegment(header, indexStart: header.size))
        segments[index].settledSize = settled.size
        for (ordinal, entry) in entries.enumerated() {
            lastSequence = max(lastSequence, entry.sequence)
            // The entry restricted to the receivers that still need the record.
            var waiting = entry
            waiting.receivers = entry.live(&ledgers)
            segments[index].add(entry, live: waiting.receivers)
            if entry.isCopy, waiting.receivers != 0 { copies.append((index, waiting)) }
            if isLate, waiting.receivers != 0 { self.waiting.append(waiting) }
            if !unindexed.isEmpty, !entry.isCopy, entry.receivers != 0, let earlier = unindexed[entry.sequence] {
                settle(earlier.entry, in: earlier.segment)
            }
            if ordinal >= indexed, waiting == entry, entry.receivers != 0, entry.sequence != 0 {
                unindexed[entry.sequence] = (index, entry)
            }
        }
        if segments[index].isSettled {
            segments.removeLast()
            if mayWrite { folder.remove(header.segment) }
            return
        }
        if indexed == entries.count || (mayWrite && folder.rewriteIndex(header, entries)) { segments[index].entries = nil }
    }

    // MARK: Copies

    /// Settles the copies whose original still exists after a crash; the original counts then.
    private mutating func dropCopies() {
        var originals: [UInt64: Set<UInt64>] = [:]
        for (index, entry) in copies {
            do throws(SystemError) {
                guard let origin = try origin(of: entry, in: segments[index]), origin != segments[index].number else { continue }
                guard let original = segments.first(where: { $0.number == origin }) else { continue }
                if originals[origin] == nil { originals[origin] = try folder.sequences(in: original) }
                if originals[origin]?.contains(entry.sequence) == true { settle(entry, in: index) }
            } catch {
                Log.warning("a profile of the spool may be delivered twice", ["sequence": "\(entry.sequence)", "error": "\(error)"])
            }
        }
    }

    /// Reads which segment a record was copied from; nil when the record's head is damaged.
    private func origin(of entry: IndexEntry, in segment: SpoolSegment) throws(SystemError) -> UInt64? {
        let length = SpoolRecord.fixedSize + SpoolRecord.maximumReceivers
        let bytes = try folder.open(segment.number, .records).read(length, at: Int(entry.offset))
        let record = unsafe SpoolRecord(bytes.span.bytes, at: 0)
        return record?.salt == segment.header.salt ? record?.origin : nil
    }

    private mutating func settle(_ entry: IndexEntry, in index: Int) {
        let header = segments[index].header
        // A record is settled only once, because the counts of unsettled records would become negative.
        guard superseded.insert(RecordPlace(segment: header.segment, offset: entry.offset)).inserted else { return }
        var entries: [SettledEntry] = []
        for slot in header.receivers.indices where entry.receivers >> UInt64(slot) & 1 == 1 {
            segments[index].settle(slot, Int(entry.length), entry.share)
            entries.append(
                SettledEntry(kind: .settled, receiver: UInt16(slot), offset: entry.offset, end: entry.offset + entry.length))
        }
        guard mayWrite else { return }
        do throws(SystemError) {
            segments[index].settledSize += try folder.append(entries, header)
        } catch { Log.error("what is settled cannot be written to the spool", ["error": "\(error)"]) }
    }

    // MARK: Segments that are read late

    /// Whether the segment has records that its index did not contain.
    var hasUnindexed: Bool { !unindexed.isEmpty }

    /// Settles records whose profiles are or were in other segments too.
    ///
    /// - Parameters:
    ///   - sequences: the sequences of profiles found elsewhere.
    ///   - origins: segments that could be read when this one could not: their records count instead of copies made from them.
    mutating func settle(_ sequences: Set<UInt64>, copiedFrom origins: Set<UInt64>) {
        for entry in waiting where sequences.contains(entry.sequence) || isCopy(entry, from: origins) { settle(entry, in: 0) }
        guard let segment = segments.first, segment.isSettled else { return }
        segments = []
        folder.remove(segment.number)
    }

    private func isCopy(_ entry: IndexEntry, from origins: Set<UInt64>) -> Bool {
        guard entry.isCopy, let segment = segments.first else { return false }
        do throws(SystemError) { return try origin(of: entry, in: segment).map(origins.contains) ?? false } catch {
            Log.warning("a profile of the spool may be delivered twice", ["sequence": "\(entry.sequence)", "error": "\(error)"])
            return false
        }
    }
}

/// The segment and offset at which a record begins.
struct RecordPlace: Hashable {
    let segment: UInt64
    let offset: UInt32
}
