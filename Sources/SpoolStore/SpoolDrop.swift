import Glibc
import LinuxSystem

/// Drops profiles from one receiver's queue while no gateway runs.
package struct SpoolDrop: ~Copyable {
    /// The selection of the profiles to drop.
    package enum Choice {
        case all
        case sequences(Set<UInt64>)
        /// The profiles accepted before this time, Unix nanoseconds.
        case before(Int64)

        fileprivate var sequences: Set<UInt64> { if case .sequences(let sequences) = self { sequences } else { [] } }

        fileprivate func contains(_ entry: IndexEntry) -> Bool {
            switch self {
            case .all: true
            case .sequences(let sequences): sequences.contains(entry.sequence)
            case .before(let time): entry.time < time
            }
        }
    }

    package let profiles: Int
    package let bytes: Int
    /// The requested sequences that do not wait for the receiver.
    package let unknown: Set<UInt64>
    package private(set) var segmentsRemoved = 0
    private let receiver: String
    private let choice: Choice
    private let reader: ReadOnlySpool
    /// The data directory, whose lock is held as long as this value exists, so that no gateway starts meanwhile.
    private let directory: DataDirectory

    /// Takes the data directory's lock and counts the profiles that would be dropped.
    package init(_ dataDirectory: String, _ receiver: String, _ choice: Choice) throws(SpoolRecovery.Refusal) {
        let directory = DataDirectory(dataDirectory)
        do throws(SystemError) { try directory.actAsOwner() } catch {
            throw SpoolRecovery.Refusal(description: "data_dir cannot be used: \(error)")
        }
        try directory.takeLock()
        let reader = try ReadOnlySpool(dataDirectory, isOurs: true)
        var (profiles, bytes, unknown) = (0, 0, choice.sequences)
        let unreadable = reader.forEachSegment { content in
            for record in Self.chosen(content, receiver, choice) where !record.isSuperseded {
                profiles += 1
                bytes += Int(record.entry.length)
                unknown.remove(record.entry.sequence)
            }
        }
        if let first = unreadable.first { throw SpoolRecovery.Refusal(description: "nothing is dropped: \(first)") }
        (self.receiver, self.choice, self.reader) = (receiver, choice, reader)
        self.directory = directory
        (self.profiles, self.bytes, self.unknown) = (profiles, bytes, unknown)
    }

    /// Returns the selected records that the receiver has not settled; including superseded duplicates, which would count again
    /// once the other record is removed.
    private static func chosen(_ content: SegmentContent, _ receiver: String, _ choice: Choice) -> [SegmentContent.Record] {
        guard let slot = content.header.receivers.firstIndex(of: receiver) else { return [] }
        return content.records.filter { $0.live >> UInt64(slot) & 1 == 1 && choice.contains($0.entry) }
    }

    /// Settles the selected records, and removes segments that no receiver needs any longer.
    ///
    /// When it throws, records that were not yet settled durably may still wait.
    package mutating func run() throws {
        for segment in reader.segments {
            guard let content = try reader.content(of: segment) else { continue }
            let chosen = Self.chosen(content, receiver, choice)
            guard !chosen.isEmpty else { continue }
            try settle(chosen, in: content)
            try removeIfSettled(segment)
        }
        try reader.folder.directory.spool().synchronize()
    }

    private func settle(_ records: [SegmentContent.Record], in content: SegmentContent) throws(SystemError) {
        let notes = records.enumerated().map { ordinal, record in
            SpoolNote(
                position: SpoolPosition(
                    segment: content.number, ordinal: UInt32(clamping: ordinal), offset: record.entry.offset,
                    length: record.entry.length),
                receiver: receiver)
        }
        _ = try reader.folder.append(Spool.entries(notes, content.header), content.header)
        try reader.folder.open(content.number, .settled).synchronize()
    }

    /// Reads the segment again to verify that the entries were written, and removes it when all its records are settled.
    private mutating func removeIfSettled(_ segment: (number: UInt64, files: Set<SpoolFormat.File>)) throws {
        let files = segment.files.union([.settled])
        guard let content = try reader.content(of: (segment.number, files)) else { return }
        guard Self.chosen(content, receiver, choice).isEmpty else {
            throw SpoolRecovery.Refusal(description: "\(content.file(.settled)) is damaged: nothing can be noted in it")
        }
        guard content.records.allSatisfy({ $0.live == 0 }) else { return }
        reader.folder.remove(segment.number)
        segmentsRemoved += 1
    }
}
