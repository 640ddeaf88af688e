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
