import Glibc
import LinuxSystem
import Telemetry

/// Reconstructs a segment's index from the index file and the records.
struct SegmentRepair {
    private let parts: SegmentParts
    private(set) var header: SpoolHeader
    /// The offset of the first index entry; nil when the index's header is missing or damaged.
    let indexStart: Int?
    /// Regions that contain no record and that no index entry covers.
    private(set) var damage: [Range<Int>] = []

    /// Returns nil when neither a header nor a record identifies the segment.
    init?(_ parts: SegmentParts) throws(UnreadableSegment) {
        self.parts = parts
        indexStart = parts.indexStart
        let known = if let header = parts.header { header } else { try Self.firstRecord(parts) }
        guard let known else { return nil }
        header = known
    }

    /// Reconstructs the header from the first record, when no file has an undamaged one.
    private static func firstRecord(_ parts: SegmentParts) throws(UnreadableSegment) -> SpoolHeader? {
        guard var scanner = try parts.scanner(salt: nil) else { return nil }
        do throws(SystemError) {
            let start = try scanner.nextRecord(from: SpoolHeader.size)
            guard let record = try scanner.record(at: start) else { return nil }
            return SpoolHeader(segment: parts.number, salt: record.salt, createdAt: record.time)
        } catch { throw UnreadableSegment(number: parts.number, file: .records, reason: .system(error)) }
    }

    /// Returns the segment's records in order, including damaged ones that the index knows.
    ///
    /// - Parameter isGrowing: true when a gateway may be writing after the last index entry at the moment.
    /// - Returns: the entries, and how many of them come from the index alone; that is all of them only if the index is complete.
    mutating func entries(isGrowing: Bool = false) throws(UnreadableSegment) -> (entries: [IndexEntry], indexed: Int) {
        let (known, isWhole) = try knownEntries()
        if isGrowing { return (known, known.count) }
        let end = known.last?.end ?? parts.recordsStart
        if isWhole, parts.recordsSize <= end { return (known, known.count) }
        guard var scanner = try parts.scanner(salt: header.salt) else {
            guard parts.recordsSize > end else { return (known, isWhole ? known.count : 0) }
            // These bytes cannot be read, and no entry covers them.
            damage.append(end..<parts.recordsSize)
            return (known + [unknown(end..<parts.recordsSize)], known.count)
        }
        let start = isWhole ? end : parts.recordsStart
        do throws(SystemError) {
            let found = try scan(&scanner, from: start, known: isWhole ? [] : known, isWhole ? Set(known.map(\.sequence)) : [])
            return isWhole ? (known + found, known.count) : (found, 0)
        } catch { throw UnreadableSegment(number: parts.number, file: .records, reason: .system(error)) }
    }

    /// Returns the valid entries of the index file, and whether all its entries are valid.
    private func knownEntries() throws(UnreadableSegment) -> (entries: [IndexEntry], isWhole: Bool) {
        guard let indexStart = parts.indexStart else { return ([], false) }
        var entries: [IndexEntry] = []
        var isWhole = try parts.size(.index) <= IndexEntry.largestFile
        var damagedInARow = 0
        try parts.forEachEntry(of: .index, from: indexStart, seed: header.seed) { (entry: IndexEntry?) in
            if let entry, Int(entry.offset) >= (entries.last?.end ?? 0), entry.names(only: header.receivers.count) {
                entries.append(entry)
                damagedInARow = 0
            } else {
                isWhole = false
                damagedInARow += 1
            }
            return damagedInARow < Self.mostDamagedInARow
        }
        return (entries, isWhole)
    }

    /// The number of damaged entries in a row after which the rest of the index is ignored, because it may be a hole of any size
    /// and the records tell more.
    private static let mostDamagedInARow = 1 << 18

    private mutating func scan(
        _ scanner: inout RecordScanner, from start: Int, known: [IndexEntry], _ sequences: Set<UInt64>
    ) throws(SystemError) -> [IndexEntry] {
        var entries: [IndexEntry] = []
        var sequences = sequences
        var known = known[...]
        var offset = start
        while offset < scanner.size {
            while let first = known.first, Int(first.offset) < offset { known.removeFirst() }
            if let record = try scanner.record(at: offset) {
                var found = entry(record, at: offset)
                // Only the index contains the share.
                if let first = known.first, Int(first.offset) == offset { found.share = first.share }
                // A second record with the same sequence results only from damage, so it is for no receiver.
                if !sequences.insert(record.sequence).inserted { found.receivers = 0 }
                entries.append(found)
                offset += record.length
            } else if let first = known.first, Int(first.offset) == offset {
                // The record is damaged, but the index describes it.
                entries.append(first)
                offset = first.end
            } else {
                var end = try scanner.nextRecord(from: offset + 1)
                if let first = known.first { end = min(end, Int(first.offset)) }
                damage.append(offset..<end)
                entries.append(unknown(offset..<end))
                offset = end
            }
        }
        return entries + known.filter { Int($0.offset) >= offset }
    }

    private mutating func entry(_ record: SpoolRecord, at offset: Int) -> IndexEntry {
        var mask: UInt64 = 0
        for name in record.receivers { mask |= 1 << UInt64(slot(of: name)) }
        return IndexEntry(
            offset: UInt32(clamping: offset), length: UInt32(clamping: record.length), sequence: record.sequence, time: record.time,
            receivers: mask, isCopy: record.origin != 0)
    }

    /// Returns a receiver's position in the header's list, and adds it if it is missing: records contain the names, so the list can
    /// be reconstructed.
    private mutating func slot(of name: String) -> Int {
        if let slot = header.receivers.firstIndex(of: name) { return slot }
        guard header.receivers.count < SpoolSegment.maximumReceivers else { return SpoolSegment.maximumReceivers - 1 }
        header.receivers.append(name)
        return header.receivers.count - 1
    }

    /// Returns an entry for a region of one or more unreadable records; it is for all receivers, because the actual ones are
    /// unknown.
    private func unknown(_ region: Range<Int>) -> IndexEntry {
        let all: UInt64 = header.receivers.count >= 64 ? .max : (1 << UInt64(header.receivers.count)) - 1
        return IndexEntry(
            offset: UInt32(clamping: region.lowerBound), length: UInt32(clamping: region.count), sequence: 0,
            time: header.createdAt, receivers: all)
    }
}

extension SpoolSegment {
    /// The most receivers of a segment, because an index entry has one bit for each.
    package static let maximumReceivers = 64
}

extension SpoolFolder {
    /// Replaces a segment's index with the given entries; returns false when that fails, and the old file then stays.
    func rewriteIndex(_ header: SpoolHeader, _ entries: [IndexEntry]) -> Bool {
        let name = SpoolFormat.File.index.name(of: header.segment)
        let bytes = header.encoded(.index) + entries.encoded(seed: header.seed)
        do throws(SystemError) {
            let folder = try directory.spool()
            let file = try folder.open("\(name).tmp", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            try unsafe file.writeAll(bytes.span.bytes)
            try file.synchronize()
            try folder.rename("\(name).tmp", to: name)
            return true
        } catch {
            Log.warning("cannot repair an index of the spool", ["file": name, "error": "\(error)"])
            return false
        }
    }

    /// Appends entries to a segment's `.settled` file; returns the number of bytes written.
    func append(_ entries: [SettledEntry], _ header: SpoolHeader) throws(SystemError) -> Int {
        var file = try SettledFile(header, in: self)
        return try file.append(entries)
    }

    /// The offset of the first entry in a `.settled` file: after the file's own header, or the given one if that is damaged.
    func start(of file: borrowing FileDescriptor, _ header: SpoolHeader) throws(SystemError) -> Int {
        let bytes = try file.read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        let found = try? SpoolHeader.decode(bytes, .settled)
        guard let found, found.header.segment == header.segment, found.header.salt == header.salt else {
            return header.size
        }
        return found.length
    }

    /// Returns the sequences of a segment's records according to its index; those of damaged entries are missing.
    func sequences(in segment: SpoolSegment) throws(SystemError) -> Set<UInt64> {
        if let entries = segment.entries { return Set(entries.map(\.sequence)) }
        var sequences: Set<UInt64> = []
        try IndexEntry.decode(open(segment.number, .index), from: segment.indexStart, seed: segment.header.seed) { entry in
            if let entry { sequences.insert(entry.sequence) }
            return true
        }
        return sequences
    }
}
