import Glibc
import LinuxSystem

/// The files of a segment as found on disk, of which any may be missing or damaged; only their headers are kept in memory.
struct SegmentParts {
    let number: UInt64
    let files: Set<SpoolFormat.File>
    /// The size of the records file, limited to what 32-bit offsets can address.
    let recordsSize: Int
    /// The header, from the first of index, records and `.settled` file that has an undamaged one.
    let header: SpoolHeader?
    /// The offset of the first record.
    let recordsStart: Int
    /// The offset of the first index entry; nil when the index's header is damaged.
    let indexStart: Int?
    /// The offset of the first settled entry; nil when the file belongs to another segment or is too large.
    let settledStart: Int?
    /// True when the `.settled` file belongs to another segment, or is larger than a gateway would write it.
    private let isSettledForeign: Bool
    /// Whether the `.settled` file's own header is undamaged and tells where its entries begin.
    private let hasSettledHead: Bool
    let settledSize: Int
    private let folder: SpoolFolder
    /// Files given up as unreadable; they are treated as missing.
    private let lost: Set<SpoolFormat.File>

    /// - Parameter lost: files given up as unreadable, which are not read.
    init(
        _ number: UInt64, _ files: Set<SpoolFormat.File>, _ folder: SpoolFolder, lost: Set<SpoolFormat.File> = []
    ) throws(UnreadableSegment) {
        (self.number, self.files, self.folder, self.lost) = (number, files, folder, lost)
        recordsSize = min(try Self.size(.records, number, files, folder), Int(UInt32.max))
        let records = try Self.header(.records, number, files.subtracting(lost), folder)
        let index = try Self.header(.index, number, files.subtracting(lost), folder)
        let settled = try Self.header(.settled, number, files.subtracting(lost), folder)
        let found = index ?? records ?? settled
        header = found?.header
        recordsStart = records?.length ?? found?.length ?? SpoolHeader.size
        indexStart = index?.length
        // A file of another segment has another salt. A `.settled` file with a damaged header is read with the other files' header.
        settledSize = try Self.size(.settled, number, files.subtracting(lost), folder)
        let isOthers = if let settled { !Self.agree(settled.header, found?.header) } else { false }
        hasSettledHead = settled != nil
        isSettledForeign = isOthers || settledSize > SettledEntry.largestFile
        settledStart = isSettledForeign ? nil : settled?.length ?? found?.length
    }

    private static func header(
        _ file: SpoolFormat.File, _ number: UInt64, _ files: Set<SpoolFormat.File>, _ folder: SpoolFolder
    ) throws(UnreadableSegment) -> (header: SpoolHeader, length: Int)? {
        guard files.contains(file) else { return nil }
        let bytes = try UnreadableSegment.of(number, file) { () throws(SystemError) in
            try folder.open(number, file).read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        }
        do throws(SpoolHeader.Failure) {
            let found = try SpoolHeader.decode(bytes, file)
            return found.header.segment == number ? found : nil
        } catch {
            guard case .newer(let version) = error else { return nil }
            throw UnreadableSegment(number: number, file: file, reason: .newer(version))
        }
    }

    /// Whether two headers are of the same segment and list its receivers in the same order; a repair may have added names to one
    /// of them.
    private static func agree(_ a: SpoolHeader, _ b: SpoolHeader?) -> Bool {
        guard let b, a.salt == b.salt else { return false }
        return a.receivers.starts(with: b.receivers) || b.receivers.starts(with: a.receivers)
    }

    private static func size(
        _ file: SpoolFormat.File, _ number: UInt64, _ files: Set<SpoolFormat.File>, _ folder: SpoolFolder
    ) throws(UnreadableSegment) -> Int {
        guard files.contains(file) else { return 0 }
        return try UnreadableSegment.of(number, file) { () throws(SystemError) in try folder.open(number, file).size() }
    }

    /// The size of a file; 0 when it is missing or given up.
    func size(_ file: SpoolFormat.File) throws(UnreadableSegment) -> Int {
        try Self.size(file, number, files.subtracting(lost), folder)
    }

    /// Calls `body` with the entries of a file in order, nil for a damaged one; not at all when the file is missing or given up.
    ///
    /// - Parameter body: returns whether to continue.
    func forEachEntry<Entry: SpoolEntry>(
        of file: SpoolFormat.File, from start: Int, seed: UInt32, _ body: (Entry?) -> Bool
    ) throws(UnreadableSegment) {
        guard files.contains(file), !lost.contains(file) else { return }
        try UnreadableSegment.of(number, file) { () throws(SystemError) in
            try Entry.decode(folder.open(number, file), from: start, seed: seed, body)
        }
    }

    /// Returns a scanner of the records file; nil when that is missing or given up.
    func scanner(salt: UInt64?) throws(UnreadableSegment) -> RecordScanner? {
        guard files.contains(.records), !lost.contains(.records) else { return nil }
        do throws(SystemError) {
            return try RecordScanner(folder.open(number, .records), salt: salt)
        } catch { throw UnreadableSegment(number: number, file: .records, reason: .system(error)) }
    }

    /// Whether the `.settled` file cannot be used: it belongs to another segment, or its own header is damaged and the list of
    /// receivers has changed, so that the start and the meaning of its entries are unknown.
    func losesSettled(_ header: SpoolHeader) -> Bool {
        files.contains(.settled) && (isSettledForeign || (!hasSettledHead && header.receivers != self.header?.receivers))
    }

    /// Returns what each of the segment's receivers has settled, and the size of the `.settled` file.
    func ledgers(_ header: SpoolHeader) throws(UnreadableSegment) -> (ledgers: [SettledLedger], size: Int) {
        var entries = [[SettledEntry]](repeating: [], count: header.receivers.count)
        if let settledStart, !losesSettled(header) {
            try forEachEntry(of: .settled, from: settledStart, seed: header.seed) { (entry: SettledEntry?) in
                if let entry, entries.indices.contains(Int(entry.receiver)) { entries[Int(entry.receiver)].append(entry) }
                return true
            }
        }
        return (entries.map(SettledLedger.init), losesSettled(header) ? 0 : settledSize)
    }
}

/// The error for a segment that has a file which cannot be opened or read now; the segment is left untouched.
struct UnreadableSegment: Error, CustomStringConvertible {
    enum Reason: Sendable {
        case system(SystemError)
        /// Written by a later version of this program.
        case newer(UInt32)
    }

    let number: UInt64
    let file: SpoolFormat.File
    let reason: Reason

    var name: String { file.name(of: number) }

    var description: String {
        switch reason {
        case .system(let error): "\(error)"
        case .newer(let version):
            "the spool's \(name) has format version \(version); this program knows up to \(SpoolFormat.version)"
        }
    }

    var code: Int32 { if case .system(let error) = reason { error.code } else { 0 } }

    /// Runs `body`, and converts its error to one that names the segment's file.
    static func of<R>(
        _ number: UInt64, _ file: SpoolFormat.File, _ body: () throws(SystemError) -> R
    ) throws(UnreadableSegment) -> R {
        do throws(SystemError) { return try body() } catch {
            throw UnreadableSegment(number: number, file: file, reason: .system(error))
        }
    }
}

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
    static let maximumReceivers = 64
}

extension SpoolFolder {
    /// Replaces a segment's index with the given entries; returns false when that fails, and the old file then stays.
    func rewriteIndex(_ header: SpoolHeader, _ entries: [IndexEntry]) -> Bool {
        let name = SpoolFormat.File.index.name(of: header.segment)
        var bytes = header.encoded(.index)
        for entry in entries { bytes += entry.encoded(seed: header.seed) }
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

    /// Appends entries to a segment's `.settled` file.
    ///
    /// - Returns: the number of bytes written.
    func append(_ entries: [SettledEntry], _ header: SpoolHeader) throws(SystemError) -> Int {
        let file = try open(header.segment, .settled, O_RDWR | O_CREAT)
        let (start, size) = (try start(of: file, header), try file.size())
        var bytes: [UInt8] = size < start ? header.encoded(.settled) : []
        // An incomplete last entry is overwritten, because it would shift those that follow.
        let end = bytes.isEmpty ? start + (size - start) / SettledEntry.size * SettledEntry.size : 0
        for entry in entries { bytes += entry.encoded(seed: header.seed) }
        try unsafe file.writeAll(bytes.span.bytes, at: end)
        return bytes.count
    }

    /// The offset of the first entry in a `.settled` file: after the file's own header, or the given one if that is damaged.
    func start(of file: borrowing FileDescriptor, _ header: SpoolHeader) throws(SystemError) -> Int {
        let bytes = try file.read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        let found = try? SpoolHeader.decode(bytes, .settled)
        guard let found, found.header.segment == header.segment, found.header.salt == header.salt else {
            return header.encoded(.settled).count
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
