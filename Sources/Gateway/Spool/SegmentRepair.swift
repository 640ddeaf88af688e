import Glibc
import LinuxSystem

/// A segment's files as they are found, any of which may be missing or damaged; only their beginnings are held.
struct SegmentParts {
    let number: UInt64
    let files: Set<SpoolFormat.File>
    let recordsSize: Int
    /// From whichever file has one that is sound.
    let header: SpoolHeader?
    /// Where records begin.
    let recordsStart: Int
    /// Where entries begin in the index; nil when its header is damaged.
    let indexStart: Int?
    /// Where entries begin in what was settled; nil when that is another segment's.
    let settledStart: Int?
    /// True when what is settled is another segment's, under this one's name.
    let isSettledForeign: Bool
    private let folder: SpoolFolder

    init(_ number: UInt64, _ files: Set<SpoolFormat.File>, _ folder: SpoolFolder) throws(SpoolRecovery.Refusal) {
        (self.number, self.files, self.folder) = (number, files, folder)
        recordsSize = (try? folder.open(number, .records).size) ?? 0
        let records = try Self.header(.records, number, folder)
        let index = try Self.header(.index, number, folder)
        let settled = try Self.header(.settled, number, folder)
        let found = index ?? records ?? settled
        header = found?.header
        recordsStart = records?.length ?? found?.length ?? SpoolHeader.size
        indexStart = index?.length
        // A file of another segment under this one's name has another salt; one whose head is damaged is read as its fellows are.
        isSettledForeign = settled != nil && settled?.header.salt != header?.salt
        settledStart = settled == nil || settled?.header.salt == header?.salt ? settled?.length ?? found?.length : nil
    }

    private static func header(
        _ file: SpoolFormat.File, _ number: UInt64, _ folder: SpoolFolder
    ) throws(SpoolRecovery.Refusal) -> (header: SpoolHeader, length: Int)? {
        do throws(SpoolHeader.Failure) {
            guard let bytes = try? folder.open(number, file).read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0) else {
                return nil
            }
            let found = try SpoolHeader.decode(bytes, file)
            return found.header.segment == number ? found : nil
        } catch {
            guard case .newer(let version) = error else { return nil }
            throw SpoolRecovery.Refusal(
                description:
                    "the spool's \(file.name(of: number)) has format version \(version); this program knows up to \(SpoolFormat.version)")
        }
    }

    var index: [UInt8] { read(.index) }

    func read(_ file: SpoolFormat.File) -> [UInt8] { (try? folder.open(number, file).readAll(limit: .max)) ?? [] }

    /// What each of the segment's receivers has settled, and the size of the file that says so.
    func ledgers(_ header: SpoolHeader) -> (ledgers: [SettledLedger], size: Int) {
        var entries = [[SettledEntry]](repeating: [], count: header.receivers.count)
        let settled = read(.settled)
        if let settledStart, settled.count > settledStart {
            SettledEntry.decode(settled, from: settledStart, seed: header.seed) { entry in
                if let entry, entries.indices.contains(Int(entry.receiver)) { entries[Int(entry.receiver)].append(entry) }
            }
        }
        return (entries.map(SettledLedger.init), settled.count)
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

    init?(_ parts: SegmentParts, _ folder: SpoolFolder) {
        self.parts = parts
        indexStart = parts.indexStart
        guard let header = parts.header ?? Self.firstRecord(parts, folder) else { return nil }
        self.header = header
    }

    /// Without any header, the first record tells what it said.
    private static func firstRecord(_ parts: SegmentParts, _ folder: SpoolFolder) -> SpoolHeader? {
        do throws(SystemError) {
            var scanner = RecordScanner(try folder.open(parts.number, .records), salt: nil)
            let start = try scanner.nextRecord(from: SpoolHeader.size)
            guard let record = try scanner.record(at: start) else { return nil }
            return SpoolHeader(segment: parts.number, salt: record.salt, createdAt: record.time)
        } catch { return nil }
    }

    /// The segment's records in order, also those that are known and damaged.
    ///
    /// - Parameter isGrowing: true when bytes behind the index are being written just now.
    /// - Returns: with them, how many come from the index alone, which has all of them when it is whole.
    mutating func entries(
        _ folder: SpoolFolder, isGrowing: Bool = false
    ) throws(SystemError) -> (entries: [IndexEntry], indexed: Int) {
        let (known, isWhole) = knownEntries()
        if isGrowing { return (known, known.count) }
        let end = known.last?.end ?? parts.recordsStart
        if isWhole, parts.recordsSize <= end { return (known, known.count) }
        guard parts.files.contains(.records) else { return (known, 0) }
        var scanner = RecordScanner(try folder.open(parts.number, .records), salt: header.salt)
        let start = isWhole ? end : parts.recordsStart
        let found = try scan(&scanner, from: start, known: isWhole ? [] : known, isWhole ? Set(known.map(\.sequence)) : [])
        return isWhole ? (known + found, known.count) : (found, 0)
    }

    /// What the index says, and whether all of that is sound.
    private func knownEntries() -> (entries: [IndexEntry], isWhole: Bool) {
        guard let indexStart = parts.indexStart else { return ([], false) }
        let index = parts.index
        var entries: [IndexEntry] = []
        entries.reserveCapacity(max(0, index.count - indexStart) / IndexEntry.size)
        var isWhole = true
        IndexEntry.decode(index, from: indexStart, seed: header.seed) { entry in
            if let entry, Int(entry.offset) >= (entries.last?.end ?? 0) { entries.append(entry) } else { isWhole = false }
        }
        return (entries, isWhole)
    }

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
    /// Writes a segment's index anew; false when that fails, and then the old one stays.
    func rewriteIndex(_ header: SpoolHeader, _ entries: [IndexEntry]) -> Bool {
        let name = SpoolFormat.File.index.name(of: header.segment)
        var bytes = header.encoded(.index)
        for entry in entries { bytes += entry.encoded(seed: header.seed) }
        do throws(SystemError) {
            let file = try FileDescriptor.open(folder.path(of: "\(name).tmp"), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
            try unsafe file.writeAll(bytes.span.bytes)
            try file.synchronize()
            guard unsafe rename(folder.path(of: "\(name).tmp"), folder.path(of: name)) == 0 else { throw SystemError("rename \(name)") }
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
        let start = try start(of: file) ?? header.encoded(.settled).count
        var bytes: [UInt8] = file.size < start ? header.encoded(.settled) : []
        // A torn entry before it would shift what follows.
        let end = bytes.isEmpty ? start + (file.size - start) / SettledEntry.size * SettledEntry.size : 0
        for entry in entries { bytes += entry.encoded(seed: header.seed) }
        try unsafe file.writeAll(bytes.span.bytes, at: end)
        return bytes.count
    }

    /// Where entries begin in a file that is there already.
    private func start(of file: borrowing FileDescriptor) throws(SystemError) -> Int? {
        let bytes = try file.read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        do throws(SpoolHeader.Failure) { return try SpoolHeader.decode(bytes, .settled).length } catch { return nil }
    }

    /// The sequences of a segment's records; none when its index cannot be read.
    func sequences(in segment: SpoolSegment) -> Set<UInt64> {
        if let entries = segment.entries { return Set(entries.map(\.sequence)) }
        var sequences: Set<UInt64> = []
        let bytes = (try? open(segment.number, .index).readAll(limit: .max)) ?? []
        IndexEntry.decode(bytes, from: segment.indexStart, seed: segment.header.seed) { entry in
            if let entry { sequences.insert(entry.sequence) }
        }
        return sequences
    }
}
