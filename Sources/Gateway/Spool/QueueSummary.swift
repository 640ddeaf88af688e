import LinuxSystem

/// What waits in the spool for one receiver.
struct QueueSummary: Equatable {
    /// The one that waits longest.
    struct Oldest: Equatable {
        let sequence: UInt64
        /// When it was accepted, Unix nanoseconds.
        let time: Int64
        let attempts: Int
    }

    let receiver: String
    private(set) var profiles = 0
    private(set) var bytes = 0
    private(set) var oldest: Oldest?
    /// The earliest time to come at which something that is delayed is tried again, Unix nanoseconds; nil when nothing is.
    private(set) var nextRetry: Int64?

    init(_ receiver: String) { self.receiver = receiver }

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
    /// How often is looked again when a gateway lets segments go meanwhile.
    private static let looks = 5

    /// Sums up every receiver that has something in the spool, by name; with what cannot be read of it.
    static func all(
        _ dataDirectory: String
    ) throws(SpoolRecovery.Refusal) -> (queues: [QueueSummary], unreadable: [UnreadableSegment]) {
        var found: (summaries: [String: QueueSummary], unreadable: [UnreadableSegment]) = ([:], [])
        for _ in 0..<looks {
            let reader = try SpoolReader(dataDirectory)
            found = sum(reader)
            if reader.isComplete { break }
        }
        return (found.summaries.values.sorted { $0.receiver < $1.receiver }, found.unreadable)
    }

    private static func sum(_ reader: SpoolReader) -> ([String: QueueSummary], [UnreadableSegment]) {
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
