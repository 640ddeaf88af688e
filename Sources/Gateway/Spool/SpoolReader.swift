import Glibc
import LinuxSystem

/// The spool as one sees it who changes nothing, perhaps while a gateway runs.
///
/// A segment at a time is in memory, and each may be gone when its turn comes.
struct SpoolReader {
    let folder: SpoolFolder
    /// True when a gateway has the spool: it writes to it, and lets segments go.
    let isRunning: Bool
    /// What there was at first, in order.
    let segments: [(number: UInt64, files: Set<SpoolFormat.File>)]
    /// Names of files that are none of the spool's, and of what is no file.
    let foreign: [String]
    private let superseded: Set<RecordPlace>

    /// Looks what there is; a folder that no gateway has made yet is an empty spool.
    ///
    /// - Parameter isOurs: true when this process has the spool's lock.
    init(_ dataDirectory: String, isOurs: Bool = false) throws(SpoolRecovery.Refusal) {
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
        superseded = try SpoolRecovery(folder, mayWrite: false, isRunning: isRunning).superseded
    }

    /// True when no segment was let go since the first look, so that what was read of one fits what was read of another.
    var isComplete: Bool {
        // A folder that cannot be listed any more is looked at no further.
        guard isRunning, let now = try? folder.list() else { return true }
        return Set(segments.map(\.number)).isSubset(of: now.segments.map(\.number))
    }

    /// Reads a segment's index and what is settled in it; nil when it is gone, or holds nothing that a start would find.
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

    /// Lends each segment in turn.
    ///
    /// - Returns: those that cannot be read.
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

/// One segment's records in order, and who still needs each.
struct SegmentContent {
    struct Record {
        let entry: IndexEntry
        /// A bit for each of the header's receivers that has not settled it.
        var live: UInt64
        /// True when another record has the same profile and counts instead.
        let isSuperseded: Bool
    }

    let number: UInt64
    let header: SpoolHeader
    let records: [Record]
    /// Bytes that are no record, and that no index entry named.
    let damage: [Range<Int>]
    /// By receiver.
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

    /// The receivers that a mask has a bit for.
    func names(_ mask: UInt64) -> [String] {
        header.receivers.indices.filter { mask >> UInt64($0) & 1 == 1 }.map { header.receivers[$0] }
    }

    /// How far a receiver has come with a record, where it has begun.
    func attempt(_ entry: IndexEntry, _ slot: Int) -> SpoolAttempt? {
        ledgers.indices.contains(slot) ? ledgers[slot].attempts[entry.offset] : nil
    }

    func file(_ file: SpoolFormat.File) -> String { file.name(of: number) }
}

extension IndexEntry {
    /// Who has not settled it, as the ledgers say, which are asked in the order of the records.
    func live(_ ledgers: inout [SettledLedger]) -> UInt64 {
        var live = receivers
        for slot in ledgers.indices where live >> UInt64(slot) & 1 == 1 && ledgers[slot].isSettled(offset) {
            live &= ~(1 << UInt64(slot))
        }
        return live
    }
}

extension SpoolFolder {
    /// Reads a record and checks all of it.
    func profile(
        _ entry: IndexEntry, in header: SpoolHeader, _ file: borrowing FileDescriptor
    ) throws(DamagedRecord) -> (record: SpoolRecord, profile: Profile) {
        var bytes = ByteBuffer()
        do throws(SystemError) {
            try file.read(Int(entry.length), at: Int(entry.offset), into: &bytes)
        } catch { throw DamagedRecord(description: "it cannot be read: \(error)") }
        return try SpoolRecord.profile(bytes, length: Int(entry.length), sequence: entry.sequence) { $0 == header.salt }
    }
}
