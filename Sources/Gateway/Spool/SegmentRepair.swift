import Glibc
import LinuxSystem

/// A segment's files as they are found, any of which may be missing or damaged; only their beginnings are held.
struct SegmentParts {
    let number: UInt64
    let files: Set<SpoolFormat.File>
    /// As far as places of 32 bits reach.
    let recordsSize: Int
    /// From whichever file has one that is sound.
    let header: SpoolHeader?
    /// Where records begin.
    let recordsStart: Int
    /// Where entries begin in the index; nil when its header is damaged.
    let indexStart: Int?
    /// Where entries begin in what was settled; nil when that is another segment's.
    let settledStart: Int?
    /// True when what is settled is another segment's, under this one's name, or more than anybody has settled in one.
    private let isSettledForeign: Bool
    /// Whether the file of what is settled says by itself where its entries begin.
    private let hasSettledHead: Bool
    let settledSize: Int
    private let folder: SpoolFolder
    /// Files that the disk does not give back: what they said is lost.
    private let lost: Set<SpoolFormat.File>

    /// - Parameter lost: what is not even asked for.
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
        // A file of another segment under this one's name has another salt; one whose head is damaged is read as its fellows are.
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

    /// Whether two files are of one segment, and name its receivers by the same places; a repair may have added names to one of them.
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

    /// The size of a file; 0 where it is not there, or is lost.
    func size(_ file: SpoolFormat.File) throws(UnreadableSegment) -> Int {
        try Self.size(file, number, files.subtracting(lost), folder)
    }

    /// Lends the entries of a file in order, damaged ones as nil; none where it is not there, or is lost.
    ///
    /// - Parameter body: answers whether to go on.
    func forEachEntry<Entry: SpoolEntry>(
        of file: SpoolFormat.File, from start: Int, seed: UInt32, _ body: (Entry?) -> Bool
    ) throws(UnreadableSegment) {
        guard files.contains(file), !lost.contains(file) else { return }
        try UnreadableSegment.of(number, file) { () throws(SystemError) in
            try Entry.decode(folder.open(number, file), from: start, seed: seed, body)
        }
    }

    /// What looks for records in the file; nil where that is not there, or is lost.
    func scanner(salt: UInt64?) throws(UnreadableSegment) -> RecordScanner? {
        guard files.contains(.records), !lost.contains(.records) else { return nil }
        do throws(SystemError) {
            return try RecordScanner(folder.open(number, .records), salt: salt)
        } catch { throw UnreadableSegment(number: number, file: .records, reason: .system(error)) }
    }

    /// Whether the file of what is settled says nothing: it is another one's, or only a head that has other names by now would say
    /// where its entries begin and whom they mean.
    func losesSettled(_ header: SpoolHeader) -> Bool {
        files.contains(.settled) && (isSettledForeign || (!hasSettledHead && header.receivers != self.header?.receivers))
    }

    /// What each of the segment's receivers has settled, and the size of the file that says so.
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

/// A segment of which a file cannot be opened or read now: it is left as it is.
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

    /// Does something with a segment's file, and says which one it was when that fails.
    static func of<R>(
        _ number: UInt64, _ file: SpoolFormat.File, _ body: () throws(SystemError) -> R
    ) throws(UnreadableSegment) -> R {
        do throws(SystemError) { return try body() } catch {
            throw UnreadableSegment(number: number, file: file, reason: .system(error))
        }
    }
}

/// Puts a segment's index together from what the index says and from what the records show.
struct SegmentRepair {
    private let parts: SegmentParts
    private(set) var header: SpoolHeader
    /// nil when there was no header for the index.
    let indexStart: Int?
    /// Bytes that are no record, and that no index entry names.
    private(set) var damage: [Range<Int>] = []

    /// nil when none of the files says whose records they are.
    init?(_ parts: SegmentParts) throws(UnreadableSegment) {
        self.parts = parts
        indexStart = parts.indexStart
        let known = if let header = parts.header { header } else { try Self.firstRecord(parts) }
        guard let known else { return nil }
        header = known
    }

    /// Without any header, the first record tells what it said.
    private static func firstRecord(_ parts: SegmentParts) throws(UnreadableSegment) -> SpoolHeader? {
        guard var scanner = try parts.scanner(salt: nil) else { return nil }
        do throws(SystemError) {
            let start = try scanner.nextRecord(from: SpoolHeader.size)
            guard let record = try scanner.record(at: start) else { return nil }
            return SpoolHeader(segment: parts.number, salt: record.salt, createdAt: record.time)
        } catch { throw UnreadableSegment(number: parts.number, file: .records, reason: .system(error)) }
    }

    /// The segment's records in order, also those that are known and damaged.
    ///
    /// - Parameter isGrowing: true when bytes behind the index are being written just now.
    /// - Returns: with them, how many come from the index alone, which has all of them when it is whole.
    mutating func entries(isGrowing: Bool = false) throws(UnreadableSegment) -> (entries: [IndexEntry], indexed: Int) {
        let (known, isWhole) = try knownEntries()
        if isGrowing { return (known, known.count) }
        let end = known.last?.end ?? parts.recordsStart
        if isWhole, parts.recordsSize <= end { return (known, known.count) }
        guard var scanner = try parts.scanner(salt: header.salt) else {
            guard parts.recordsSize > end else { return (known, isWhole ? known.count : 0) }
            // What the disk does not give back, and no entry names.
            damage.append(end..<parts.recordsSize)
            return (known + [unknown(end..<parts.recordsSize)], known.count)
        }
        let start = isWhole ? end : parts.recordsStart
        do throws(SystemError) {
            let found = try scan(&scanner, from: start, known: isWhole ? [] : known, isWhole ? Set(known.map(\.sequence)) : [])
            return isWhole ? (known + found, known.count) : (found, 0)
        } catch { throw UnreadableSegment(number: parts.number, file: .records, reason: .system(error)) }
    }

    /// What the index says, and whether all of that is sound.
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

    /// Behind so many damaged entries the records say more than the rest of the index, which may be a hole of any size.
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
                // Whose share it takes, the index alone knows.
                if let first = known.first, Int(first.offset) == offset { found.share = first.share }
                // The same record again, as only damage makes it, is for nobody.
                if !sequences.insert(record.sequence).inserted { found.receivers = 0 }
                entries.append(found)
                offset += record.length
            } else if let first = known.first, Int(first.offset) == offset {
                // Damaged, and the index tells what it was.
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

    /// The records name their receivers, so the header's list can be lost.
    private mutating func slot(of name: String) -> Int {
        if let slot = header.receivers.firstIndex(of: name) { return slot }
        guard header.receivers.count < SpoolSegment.maximumReceivers else { return SpoolSegment.maximumReceivers - 1 }
        header.receivers.append(name)
        return header.receivers.count - 1
    }

    /// Stands for bytes that were one record or more, of whom nobody knows for whom: every receiver counts them.
    private func unknown(_ region: Range<Int>) -> IndexEntry {
        let all: UInt64 = header.receivers.count >= 64 ? .max : (1 << UInt64(header.receivers.count)) - 1
        return IndexEntry(
            offset: UInt32(clamping: region.lowerBound), length: UInt32(clamping: region.count), sequence: 0,
            time: header.createdAt, receivers: all)
    }
}

extension SpoolSegment {
    /// One bit each.
    static let maximumReceivers = 64
}

extension SpoolFolder {
    /// Writes a segment's index anew, from entries that are known to be all; false when that fails, and then the old one stays.
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

    /// Adds to what is settled in a segment.
    ///
    /// - Returns: how many bytes the file grew by.
    func append(_ entries: [SettledEntry], _ header: SpoolHeader) throws(SystemError) -> Int {
        let file = try open(header.segment, .settled, O_RDWR | O_CREAT)
        let (start, size) = (try start(of: file, header), try file.size())
        var bytes: [UInt8] = size < start ? header.encoded(.settled) : []
        // A torn entry before it would shift what follows.
        let end = bytes.isEmpty ? start + (size - start) / SettledEntry.size * SettledEntry.size : 0
        for entry in entries { bytes += entry.encoded(seed: header.seed) }
        try unsafe file.writeAll(bytes.span.bytes, at: end)
        return bytes.count
    }

    /// Where entries begin in a file of what is settled, as its own head says where that is sound.
    func start(of file: borrowing FileDescriptor, _ header: SpoolHeader) throws(SystemError) -> Int {
        let bytes = try file.read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        let found = try? SpoolHeader.decode(bytes, .settled)
        guard let found, found.header.segment == header.segment, found.header.salt == header.salt else {
            return header.encoded(.settled).count
        }
        return found.length
    }

    /// The sequences of a segment's records, as its index says; those of entries that are damaged are missing.
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
