import Glibc
import LinuxSystem

/// What is on disk at the start: every segment that holds something, and what was damaged.
///
/// Records are not read: the indexes say where they are, and each is checked when it is delivered. Only what an index does
/// not know, or a damaged one, is looked for in the records themselves.
struct SpoolRecovery {
    private(set) var segments: [SpoolSegment] = []
    private(set) var damaged = 0
    private(set) var lastSequence: UInt64 = 0
    private(set) var lastNumber: UInt64 = 0

    private let folder: SpoolFolder
    /// Repairs files; false for one who only looks, perhaps while a gateway runs.
    private let mayWrite: Bool
    /// A gateway has the spool, and writes to the newest segment.
    private let isRunning: Bool
    /// Records that count no more, for another one has the same profile.
    private(set) var superseded: Set<RecordPlace> = []
    /// Records that were copied from another segment, which may still be there after a crash, for those who need them.
    private var copies: [(segment: Int, entry: IndexEntry)] = []

    /// Records that no index knew, by sequence: what a failed sync left, which was written again in a later segment.
    private var unindexed: [UInt64: (segment: Int, entry: IndexEntry)] = [:]

    /// Why the spool is left alone.
    struct Refusal: Error, CustomStringConvertible {
        let description: String
    }

    /// - Parameter isRunning: true when another process writes to the spool.
    /// - Throws: ``Refusal`` for files of a later version, or when the folder itself cannot be read.
    init(_ folder: SpoolFolder, mayWrite: Bool, isRunning: Bool = false) throws(Refusal) {
        (self.folder, self.mayWrite, self.isRunning) = (folder, mayWrite, isRunning)
        let found: [(number: UInt64, files: Set<SpoolFormat.File>)]
        let foreign: [String]
        do throws(SystemError) {
            if mayWrite { try folder.finishRemovals() }
            (found, foreign) = try folder.list()
        } catch {
            throw Refusal(description: "the spool cannot be read: \(error)")
        }
        var parts: [SegmentParts] = []
        for (number, files) in found { parts.append(try SegmentParts(number, files, folder)) }
        // Not before it is known that no file is of a later version.
        for name in foreign where mayWrite { setAside(name) }
        // A number whose removal could not be finished is not given again, or it would be finished on the next one.
        lastNumber = max(found.last?.number ?? 0, foreign.compactMap(SpoolFolder.removed).max() ?? 0)
        for part in parts { recover(part) }
        dropCopies()
    }

    private mutating func setAside(_ name: String) {
        guard mayWrite else { return }
        // A temporary index is what a crash leaves of a repair.
        if name.hasSuffix(".tmp") { return (try? folder.folder.remove(name)) ?? () }
        report("a file that is none of the spool's", ["file": name])
        folder.quarantine(name)
    }

    private mutating func report(_ what: String, _ fields: KeyValuePairs<String, String>) {
        damaged += 1
        guard mayWrite else { return }
        let details = fields.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        Log.error("spool damage", ["what": what, "where": details])
    }

    // MARK: A segment

    private mutating func recover(_ parts: SegmentParts) {
        do throws(SystemError) {
            guard var repair = SegmentRepair(parts, folder) else { return setAside(parts) }
            let (entries, indexed) = try repair.entries(folder, isGrowing: isRunning && parts.number == lastNumber)
            for region in repair.damage { tell(of: region, in: parts.number) }
            // Without any head nobody knows whom it speaks of.
            if parts.isSettledForeign || (parts.header == nil && parts.files.contains(.settled)) {
                setAside(SpoolFormat.File.settled.name(of: parts.number))
            }
            add(parts, repair.header, entries, indexed: indexed)
        } catch {
            report("a segment that cannot be read", ["segment": SpoolFormat.File.records.name(of: parts.number), "error": "\(error)"])
        }
    }

    private mutating func tell(of region: Range<Int>, in segment: UInt64) {
        report(
            "bytes that are no record",
            ["file": SpoolFormat.File.records.name(of: segment), "offset": "\(region.lowerBound)", "size": "\(region.count)"])
        if mayWrite { folder.quarantine(segment, at: region.lowerBound, count: region.count) }
    }

    /// Puts away what is no segment of ours; an empty one is what a crash leaves of a new one.
    private mutating func setAside(_ parts: SegmentParts) {
        guard mayWrite else { return }
        if parts.recordsSize == 0, parts.index.isEmpty { return folder.remove(parts.number) }
        report("a segment without a head or a record", ["segment": SpoolFormat.File.records.name(of: parts.number)])
        for file in parts.files { folder.quarantine(file.name(of: parts.number)) }
    }

    private mutating func add(_ parts: SegmentParts, _ header: SpoolHeader, _ entries: [IndexEntry], indexed: Int) {
        var (ledgers, settledSize) = parts.ledgers(header)
        let index = segments.count
        segments.append(SpoolSegment(header, indexStart: header.encoded(.index).count))
        segments[index].settledSize = settledSize
        for (ordinal, entry) in entries.enumerated() {
            lastSequence = max(lastSequence, entry.sequence)
            // From here on, for those who still need it.
            var waiting = entry
            waiting.receivers = entry.live(&ledgers)
            segments[index].add(entry, live: waiting.receivers)
            if entry.isCopy, waiting.receivers != 0 { copies.append((index, waiting)) }
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

    /// A copy counts once its original is gone; when a crash came between, the original does.
    private mutating func dropCopies() {
        var originals: [UInt64: Set<UInt64>] = [:]
        for (index, entry) in copies {
            guard let origin = origin(of: entry, in: segments[index]), let original = segments.first(where: { $0.number == origin })
            else { continue }
            let sequences = originals[origin] ?? folder.sequences(in: original)
            originals[origin] = sequences
            if sequences.contains(entry.sequence) { settle(entry, in: index) }
        }
    }

    /// Which segment a record was copied from.
    private func origin(of entry: IndexEntry, in segment: SpoolSegment) -> UInt64? {
        let length = SpoolRecord.fixedSize + SpoolRecord.maximumReceivers
        guard let bytes = try? folder.open(segment.number, .records).read(length, at: Int(entry.offset)) else { return nil }
        let record = unsafe SpoolRecord(bytes.span.bytes, at: 0)
        return record?.salt == segment.header.salt ? record?.origin : nil
    }

    private mutating func settle(_ entry: IndexEntry, in index: Int) {
        let header = segments[index].header
        superseded.insert(RecordPlace(segment: header.segment, offset: entry.offset))
        var entries: [SettledEntry] = []
        for slot in header.receivers.indices where entry.receivers >> UInt64(slot) & 1 == 1 {
            segments[index].settle(slot, Int(entry.length))
            entries.append(
                SettledEntry(kind: .settled, receiver: UInt16(slot), offset: entry.offset, end: entry.offset + entry.length))
        }
        guard mayWrite else { return }
        do throws(SystemError) {
            segments[index].settledSize += try folder.append(entries, header)
        } catch { Log.error("cannot note what is settled in the spool", ["error": "\(error)"]) }
    }
}

/// Where a record begins.
struct RecordPlace: Hashable {
    let segment: UInt64
    let offset: UInt32
}
