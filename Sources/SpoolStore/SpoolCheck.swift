import Glibc
import LinuxSystem

/// A damaged part of the spool.
package struct SpoolDamage: Equatable {
    /// The file's name without its folder.
    package let file: String
    package let offset: Int
    /// The number of damaged bytes; 0 when unknown.
    package var size = 0
    package let what: String
    /// The sequence of the damaged record; 0 when it is no known record.
    package var sequence: UInt64 = 0
    /// The receivers that still need the damaged record, if known.
    package var receivers: [String] = []
    /// True when it is a record that no receiver needs any longer.
    package var isSettled = false
}

/// Reads the whole spool and reports damage.
package struct SpoolCheck {
    package private(set) var segments = 0
    package private(set) var records = 0
    package private(set) var bytes = 0
    package private(set) var damages = 0
    private let reader: ReadOnlySpool

    /// How many times a damaged segment is read while a gateway runs, because a half-written record is complete a moment later.
    private static let looks = 3
    private static let pause: UInt32 = 50_000

    package var isRunning: Bool { reader.isRunning }

    package init(_ dataDirectory: String) throws(SpoolRecovery.Refusal) { reader = try ReadOnlySpool(dataDirectory) }

    /// Checks the segments one by one.
    ///
    /// - Parameter report: called for each damage.
    package mutating func run(_ report: (SpoolDamage) -> Void) {
        // Files of interrupted operations, which the next start cleans up, are not damage.
        for name in reader.foreign where !SpoolFolder.isUnfinished(name) && SpoolFolder.removed(name) == nil {
            damages += 1
            report(SpoolDamage(file: name, offset: 0, what: "it is none of the spool's files"))
        }
        for segment in reader.segments {
            do throws(UnreadableSegment) {
                guard let check = try check(segment) else { continue }
                segments += 1
                records += check.records
                bytes += check.bytes
                damages += check.damages.count
                for damage in check.damages { report(damage) }
            } catch {
                damages += 1
                report(SpoolDamage(file: error.name, offset: 0, what: "it cannot be read: \(error)"))
            }
        }
    }

    /// - Returns: nil when a gateway has removed the segment.
    private func check(_ segment: (number: UInt64, files: Set<SpoolFormat.File>)) throws(UnreadableSegment) -> SegmentCheck? {
        do throws(UnreadableSegment) { return try look(at: segment) } catch {
            // A running gateway may remove the segment during the check.
            if error.code == ENOENT, reader.folder.directory.isTaken { return nil }
            throw error
        }
    }

    private func look(at segment: (number: UInt64, files: Set<SpoolFormat.File>)) throws(UnreadableSegment) -> SegmentCheck? {
        let (directory, isNewest) = (reader.folder.directory, segment.number == reader.segments.last?.number)
        var check = try SegmentCheck(segment.number, segment.files, reader.folder, isGrowing: isRunning && isNewest)
        for _ in 1..<Self.looks {
            // This also covers a gateway that was started since.
            guard !check.damages.isEmpty, directory.isTaken else { break }
            usleep(Self.pause)
            guard let now = files(of: segment.number) else { return nil }
            check = try SegmentCheck(segment.number, now, reader.folder, isGrowing: isNewest)
        }
        let isGone = !check.damages.isEmpty && directory.isTaken && files(of: segment.number) == nil
        return isGone ? nil : check
    }

    /// The segment's files at present; nil when it is being removed or gone.
    private func files(of number: UInt64) -> Set<SpoolFormat.File>? {
        // If the folder can no longer be listed, the segment is skipped like a removed one.
        guard let found = try? reader.folder.list().segments.first(where: { $0.number == number }) else { return nil }
        return found.files.contains(.records) || !(reader.segments.first { $0.number == number }?.files.contains(.records) ?? false)
            ? found.files : nil
    }
}

/// Checks all files of one segment.
struct SegmentCheck {
    private(set) var records = 0
    private(set) var bytes = 0
    private(set) var damages: [SpoolDamage] = []
    private let number: UInt64
    private let files: Set<SpoolFormat.File>
    private let folder: SpoolFolder
    private let parts: SegmentParts

    /// - Parameter isGrowing: true when a gateway may be writing after the last index entry at the moment.
    init(
        _ number: UInt64, _ files: Set<SpoolFormat.File>, _ folder: SpoolFolder, isGrowing: Bool
    ) throws(UnreadableSegment) {
        (self.number, self.files, self.folder) = (number, files, folder)
        parts = try SegmentParts(number, files, folder)
        let content = try SegmentContent(parts, isGrowing: isGrowing)
        for file in SpoolFormat.File.allCases { try checkHeader(file, content) }
        guard let content else { return }
        try checkIndex(content.header)
        try checkSettled(content.header)
        checkRecords(content)
    }

    private mutating func add(
        _ file: SpoolFormat.File, _ offset: Int, size: Int = 0, _ what: String, sequence: UInt64 = 0, for receivers: [String] = [],
        isSettled: Bool = false
    ) {
        damages.append(
            SpoolDamage(
                file: file.name(of: number), offset: offset, size: size, what: what, sequence: sequence, receivers: receivers,
                isSettled: isSettled))
    }

    // MARK: Headers

    private mutating func checkHeader(_ file: SpoolFormat.File, _ content: SegmentContent?) throws(UnreadableSegment) {
        let holdsRecords = content.map { !$0.records.isEmpty } ?? (parts.recordsSize > 0)
        guard files.contains(file) else {
            // Files may be missing when the segment was being removed or created; that is not damage.
            let isNeeded = file == .index ? holdsRecords : file == .records && content?.records.contains { $0.live != 0 } == true
            if isNeeded { add(file, 0, "the file is missing", for: file == .records ? content?.waiting ?? [] : []) }
            return
        }
        let bytes = try UnreadableSegment.of(number, file) { () throws(SystemError) in
            try folder.open(number, file).read(SpoolHeader.size + SpoolRecord.maximumReceivers, at: 0)
        }
        if bytes.isEmpty, file == .settled || !holdsRecords { return }
        do throws(SpoolHeader.Failure) {
            let found = try SpoolHeader.decode(bytes, file).header
            if found.segment != number || found.salt != content?.header.salt { add(file, 0, "it is another segment's") }
            if file == .settled, parts.settledSize > SettledEntry.largestFile { add(file, 0, "it is larger than anybody wrote it") }
        } catch { add(file, 0, size: min(bytes.count, SpoolHeader.size), "its head is damaged") }
    }

    // MARK: Entries

    private mutating func checkIndex(_ header: SpoolHeader) throws(UnreadableSegment) {
        guard let start = parts.indexStart else { return }
        var offset = start
        var end = 0
        var damaged: [(Int, String)] = []
        try parts.forEachEntry(of: .index, from: start, seed: header.seed) { (entry: IndexEntry?) in
            if entry == nil { damaged.append((offset, "an entry is damaged")) }
            if let entry, Int(entry.offset) < end { damaged.append((offset, "an entry is out of order")) }
            if entry?.names(only: header.receivers.count) == false { damaged.append((offset, "an entry is for a receiver without a name")) }
            end = max(end, entry?.end ?? 0)
            offset += IndexEntry.size
            return damaged.count < Self.mostDamages
        }
        for (offset, what) in damaged { add(.index, offset, size: IndexEntry.size, what) }
        checkEnd(.index, try parts.size(.index), start, IndexEntry.size)
    }

    private mutating func checkSettled(_ header: SpoolHeader) throws(UnreadableSegment) {
        guard let start = parts.settledStart, parts.settledSize > start else { return }
        var offset = start
        var damaged: [(Int, String)] = []
        try parts.forEachEntry(of: .settled, from: start, seed: header.seed) { (entry: SettledEntry?) in
            if entry == nil { damaged.append((offset, "an entry is damaged")) }
            if let entry, Int(entry.receiver) >= header.receivers.count {
                damaged.append((offset, "an entry is for a receiver without a name"))
            }
            offset += SettledEntry.size
            return damaged.count < Self.mostDamages
        }
        for (offset, what) in damaged { add(.settled, offset, size: SettledEntry.size, what) }
        checkEnd(.settled, parts.settledSize, start, SettledEntry.size)
    }

    /// The number of damaged entries in a file after which no more are reported.
    private static let mostDamages = 10_000

    private mutating func checkEnd(_ file: SpoolFormat.File, _ count: Int, _ start: Int, _ size: Int) {
        let rest = max(0, count - start) % size
        if rest != 0 { add(file, count - rest, size: rest, "the last entry is not whole") }
    }

    // MARK: Records

    private mutating func checkRecords(_ content: SegmentContent) {
        guard files.contains(.records) else { return }
        do throws(SystemError) {
            let file = try folder.open(number, .records)
            var end = parts.recordsStart
            for record in content.records {
                let start = Int(record.entry.offset)
                if start > end { add(.records, end, size: start - end, "bytes that no entry of the index names") }
                end = max(end, record.entry.end)
                check(record, content, file)
            }
        } catch { add(.records, 0, "it cannot be read: \(error)", for: content.waiting) }
    }

    private mutating func check(_ record: SegmentContent.Record, _ content: SegmentContent, _ file: borrowing FileDescriptor) {
        let entry = record.entry
        if entry.sequence == 0 {
            // Once all receivers have counted the region as damaged and settled it, it is not reported any more.
            if record.live != 0 { add(entry, "bytes that are no record", record, content) }
            return
        }
        records += 1
        bytes += Int(entry.length)
        do throws(DamagedRecord) {
            _ = try folder.profile(entry, in: content.header, file)
        } catch { add(entry, error.description, record, content) }
    }

    private mutating func add(_ entry: IndexEntry, _ what: String, _ record: SegmentContent.Record, _ content: SegmentContent) {
        add(
            .records, Int(entry.offset), size: Int(entry.length), what, sequence: entry.sequence, for: content.names(record.live),
            isSettled: record.live == 0)
    }
}

extension SegmentContent {
    /// The receivers that still need a record of the segment.
    var waiting: [String] { names(records.reduce(0) { $0 | $1.live }) }
}
