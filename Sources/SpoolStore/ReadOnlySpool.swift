import Glibc
import LinuxSystem
import Profiles

/// A read-only view of the spool, usable while a gateway runs.
///
/// Only one segment at a time is in memory, and each may be gone when it is read.
package struct ReadOnlySpool {
    package let folder: SpoolFolder
    /// True when a running gateway writes to the spool and removes segments.
    let isRunning: Bool
    /// The segments listed at the beginning, in rising order.
    let segments: [(number: UInt64, files: Set<SpoolFormat.File>)]
    /// Names that do not belong to the spool, and names of the spool that no regular file has.
    let foreign: [String]
    private let superseded: Set<RecordPlace>

    /// Lists the spool; a missing folder counts as an empty spool.
    ///
    /// - Parameter isOurs: true when this process holds the spool's lock.
    package init(_ dataDirectory: String, isOurs: Bool = false) throws(SpoolRecovery.Refusal) {
        folder = SpoolFolder(DataDirectory(dataDirectory))
        isRunning = !isOurs && folder.directory.isTaken
        do throws(SystemError) {
            let listing = try folder.list()
            (segments, foreign) = (listing.segments, listing.names)
        } catch {
            guard error.code == ENOENT else { throw SpoolRecovery.Refusal(description: "the spool cannot be read: \(error)") }
            (segments, foreign, superseded) = ([], [], [])
            return
        }
        superseded = try SpoolRecovery.read(folder, mayWrite: false, isRunning: isRunning).superseded
    }

    /// True when no segment was removed since the listing, so that the contents read of different segments are consistent.
    var isComplete: Bool {
        // If the folder cannot be listed any more, it is not read again.
        guard isRunning, let now = try? folder.list() else { return true }
        return Set(segments.map(\.number)).isSubset(of: now.segments.map(\.number))
    }

    /// Reads a segment's index and settled entries; nil when the segment is gone or contains nothing that a start would find.
    func content(of segment: (number: UInt64, files: Set<SpoolFormat.File>)) throws(UnreadableSegment) -> SegmentContent? {
        let isGrowing = isRunning && segment.number == segments.last?.number
        do throws(UnreadableSegment) {
            return try SegmentContent(
                SegmentParts(segment.number, segment.files, folder), isGrowing: isGrowing, superseded: superseded)
        } catch {
            if isRunning, error.code == ENOENT { return nil }
            throw error
        }
    }

    /// Calls `body` with each segment in order.
    ///
    /// - Returns: the segments that cannot be read.
    func forEachSegment(_ body: (SegmentContent) -> Void) -> [UnreadableSegment] {
        var unreadable: [UnreadableSegment] = []
        for segment in segments {
            do throws(UnreadableSegment) {
                if let content = try content(of: segment) { body(content) }
            } catch { unreadable.append(error) }
        }
        return unreadable
    }
}

/// One segment's records in order, and the receivers that still need each.
struct SegmentContent {
    struct Record {
        let entry: IndexEntry
        /// A bit for each of the header's receivers that has not settled the record.
        var live: UInt64
        /// True when another record has the same profile and counts instead.
        let isSuperseded: Bool
    }

    let number: UInt64
    let header: SpoolHeader
    let records: [Record]
    /// Regions that contain no record and that no index entry covers.
    let damage: [Range<Int>]
    /// What each receiver has settled, in the order of the header's receivers.
    private let ledgers: [SettledLedger]

    init?(_ parts: SegmentParts, isGrowing: Bool, superseded: Set<RecordPlace> = []) throws(UnreadableSegment) {
        guard var repair = try SegmentRepair(parts) else { return nil }
        let entries = try repair.entries(isGrowing: isGrowing).entries
        (number, header, damage) = (parts.number, repair.header, repair.damage)
        var ledgers = try parts.ledgers(header).ledgers
        records = entries.map { entry in
            let place = RecordPlace(segment: parts.number, offset: entry.offset)
            return Record(entry: entry, live: entry.live(&ledgers), isSuperseded: superseded.contains(place))
        }
        self.ledgers = ledgers
    }

    /// The names of the receivers that have a bit in a mask.
    func names(_ mask: UInt64) -> [String] {
        header.receivers.indices.filter { mask >> UInt64($0) & 1 == 1 }.map { header.receivers[$0] }
    }

    /// A receiver's attempts at a record; nil when there were none.
    func attempt(_ entry: IndexEntry, _ slot: Int) -> SpoolAttempt? {
        ledgers.indices.contains(slot) ? ledgers[slot].attempts[entry.offset] : nil
    }

    func file(_ file: SpoolFormat.File) -> String { file.name(of: number) }
}

extension IndexEntry {
    /// Returns a bit for each receiver that has not settled the record; must be called in the records' order, as the ledgers
    /// require.
    func live(_ ledgers: inout [SettledLedger]) -> UInt64 {
        var live = receivers
        for slot in ledgers.indices where live >> UInt64(slot) & 1 == 1 && ledgers[slot].isSettled(offset) {
            live &= ~(1 << UInt64(slot))
        }
        return live
    }
}

extension SpoolFolder {
    /// Reads and checks a whole record.
    func profile(
        _ entry: IndexEntry, in header: SpoolHeader, _ file: borrowing FileDescriptor
    ) throws(DamagedRecord) -> (record: SpoolRecord, profile: ReceivedProfile) {
        var bytes = ByteBuffer()
        do throws(SystemError) {
            try file.read(Int(entry.length), at: Int(entry.offset), into: &bytes)
        } catch { throw DamagedRecord(description: "it cannot be read: \(error)") }
        return try SpoolRecord.profile(bytes, length: Int(entry.length), sequence: entry.sequence) { $0 == header.salt }
    }
}
