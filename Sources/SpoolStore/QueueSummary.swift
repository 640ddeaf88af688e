import LinuxSystem

/// A summary of the profiles that wait in the spool for one receiver.
package struct QueueSummary: Equatable {
    /// The profile that has waited longest.
    package struct Oldest: Equatable {
        let sequence: UInt64
        /// When it was accepted, Unix nanoseconds.
        package let time: Int64
        package let attempts: Int
    }

    package let receiver: String
    package private(set) var profiles = 0
    package private(set) var bytes = 0
    package private(set) var oldest: Oldest?
    /// The earliest future time at which a delayed profile is retried, Unix nanoseconds; nil when no profile is delayed.
    package private(set) var nextRetry: Int64?

    package init(_ receiver: String) { self.receiver = receiver }

    fileprivate mutating func add(_ entry: IndexEntry, _ attempt: SpoolAttempt?, now: Int64) {
        profiles += 1
        bytes += Int(entry.length)
        if oldest.map({ (entry.time, entry.sequence) < ($0.time, $0.sequence) }) ?? true {
            oldest = Oldest(sequence: entry.sequence, time: entry.time, attempts: attempt?.count ?? 0)
        }
        if let due = attempt?.due, due > now { nextRetry = min(nextRetry ?? .max, due) }
    }
}

extension QueueSummary {
    /// How many times the spool is read, at most, when a gateway removes segments meanwhile.
    private static let looks = 5

    /// Summarizes every receiver that has something in the spool, sorted by name, and lists the segments that cannot be read.
    package static func all(
        _ dataDirectory: String
    ) throws(SpoolRecovery.Refusal) -> (queues: [QueueSummary], unreadable: [UnreadableSegment]) {
        var found: (summaries: [String: QueueSummary], unreadable: [UnreadableSegment]) = ([:], [])
        for _ in 0..<looks {
            let reader = try ReadOnlySpool(dataDirectory)
            found = sum(reader)
            if reader.isComplete { break }
        }
        return (found.summaries.values.sorted { $0.receiver < $1.receiver }, found.unreadable)
    }

    private static func sum(_ reader: ReadOnlySpool) -> ([String: QueueSummary], [UnreadableSegment]) {
        var summaries: [String: QueueSummary] = [:]
        let now = MonotonicTime.unixNanoseconds
        let unreadable = reader.forEachSegment { content in
            var found = content.header.receivers.map(QueueSummary.init)
            for slot in found.indices { found[slot] = summaries[found[slot].receiver] ?? found[slot] }
            for record in content.records where !record.isSuperseded {
                for slot in found.indices where record.live >> UInt64(slot) & 1 == 1 {
                    found[slot].add(record.entry, content.attempt(record.entry, slot), now: now)
                }
            }
            for summary in found where summary.profiles > 0 { summaries[summary.receiver] = summary }
        }
        return (summaries, unreadable)
    }
}
