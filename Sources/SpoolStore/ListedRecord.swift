import Glibc
import LinuxSystem
package import Profiles

/// A record of the spool, and its state at each receiver.
package struct ListedRecord {
    /// The record's state at one receiver.
    package struct State {
        package let receiver: String
        package let isSettled: Bool
        package let attempt: SpoolAttempt?
    }

    package let entry: IndexEntry
    private let header: SpoolHeader
    private let live: UInt64
    private let attempts: [Int: SpoolAttempt]

    fileprivate init(_ record: SegmentContent.Record, in content: SegmentContent) {
        (entry, header, live) = (record.entry, content.header, record.live)
        var attempts: [Int: SpoolAttempt] = [:]
        for slot in content.header.receivers.indices where record.live >> UInt64(slot) & 1 == 1 {
            if let attempt = content.attempt(record.entry, slot) { attempts[slot] = attempt }
        }
        self.attempts = attempts
    }

    /// The name of the file that contains it.
    package var file: String { SpoolFormat.File.records.name(of: header.segment) }

    /// The state at each receiver that the record is for.
    package var states: [State] {
        header.receivers.indices.filter { entry.receivers >> UInt64($0) & 1 == 1 }.map { slot in
            State(receiver: header.receivers[slot], isSettled: live >> UInt64(slot) & 1 == 0, attempt: attempts[slot])
        }
    }

    /// Reads its profile; nil when a gateway has removed the file.
    package func profile(_ folder: SpoolFolder) throws(DamagedRecord) -> ReceivedProfile? {
        guard entry.sequence != 0 else { throw DamagedRecord(description: "bytes that are no record") }
        let file: FileDescriptor
        do throws(SystemError) { file = try folder.open(header.segment, .records) } catch {
            if error.code == ENOENT { return nil }
            throw DamagedRecord(description: "it cannot be read: \(error)")
        }
        return try folder.profile(entry, in: header, file).profile
    }
}

extension ReadOnlySpool {
    /// Returns the oldest waiting records.
    ///
    /// - Parameters:
    ///   - receiver: the receiver that they wait for; nil for any.
    ///   - limit: the most records to return; 0 for all.
    /// - Returns: the records, the total number that wait, and the segments that cannot be read.
    package func waiting(
        for receiver: String?, limit: Int
    ) -> (records: [ListedRecord], total: Int, unreadable: [UnreadableSegment]) {
        var found: [ListedRecord] = []
        var total = 0
        let unreadable = forEachSegment { content in
            let mask = content.mask(of: receiver)
            let waiting = content.records.filter { $0.live & mask != 0 && !$0.isSuperseded }
            total += waiting.count
            found += waiting.map { ListedRecord($0, in: content) }
            // Only `limit` records stay in memory.
            if limit > 0 { found = Self.oldest(found, limit) }
        }
        return (Self.oldest(found, limit), total, unreadable)
    }

    /// Sorts by age: copied records follow younger ones, so the journal's order is not the order of age.
    private static func oldest(_ records: [ListedRecord], _ limit: Int) -> [ListedRecord] {
        let sorted = records.sorted { ($0.entry.time, $0.entry.sequence) < ($1.entry.time, $1.entry.sequence) }
        return limit == 0 ? sorted : Array(sorted.prefix(limit))
    }

    /// Finds the record of a profile, even if all receivers have settled it; of several records, the one that counts.
    ///
    /// - Returns: the record, and the segments that cannot be read.
    package func record(_ sequence: UInt64) -> (record: ListedRecord?, unreadable: [UnreadableSegment]) {
        var found: ListedRecord?
        let unreadable = forEachSegment { content in
            for record in content.records where record.entry.sequence == sequence {
                if found == nil || record.live != 0 && !record.isSuperseded { found = ListedRecord(record, in: content) }
            }
        }
        return (found, unreadable)
    }
}

extension SegmentContent {
    fileprivate func mask(of receiver: String?) -> UInt64 {
        guard let receiver else { return .max }
        return header.receivers.firstIndex(of: receiver).map { 1 << UInt64($0) } ?? 0
    }
}
