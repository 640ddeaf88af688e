import ConfigJSON
import LinuxSystem
import SpoolStore
import Telemetry

/// `gateway queue list`: shows how many profiles wait for each receiver.
enum QueueCommandList {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: QueuePlace.options, flags: ["--json"])
        try arguments.refuseWords()
        return try QueuePlace.with(arguments) { place in
            let (queues, unreadable) = try queues(place)
            let isEmpty = queues.isEmpty && !unreadable.isEmpty
            for line in arguments.has("--json") ? json(queues, place) : isEmpty ? [] : text(queues, place) { print(line) }
            return QueuePlace.report(unreadable)
        }
    }

    /// The queues of all receivers that have profiles on disk, or are configured to queue there.
    private static func queues(_ place: QueuePlace) throws -> ([QueueSummary], [UnreadableSegment]) {
        let (found, unreadable) = try QueueSummary.all(place.dataDirectory)
        let empty = (place.onDisk ?? []).filter { name in !found.contains { $0.receiver == name } }
        return ((found + empty.map(QueueSummary.init)).sorted { $0.receiver < $1.receiver }, unreadable)
    }

    private static func text(_ queues: [QueueSummary], _ place: QueuePlace) -> [String] {
        guard !queues.isEmpty else { return ["nothing waits in \(printable(place.dataDirectory))"] }
        let now = MonotonicTime.unixNanoseconds
        var table = AlignedTable(["RECEIVER", "PROFILES", "BYTES", "OLDEST", "AGE", "NEXT RETRY", "ATTEMPTS", ""])
        for queue in queues {
            let note = place.isConfigured(queue.receiver) == false ? "not in the config" : ""
            guard let oldest = queue.oldest else {
                table.add([printable(queue.receiver), "0", "0 B", "-", "-", "-", "-", note])
                continue
            }
            let retry = queue.nextRetry.map { "in \(readableSpan(nanoseconds: $0.subtractingSaturated(now)))" } ?? "now"
            table.add([
                printable(queue.receiver), "\(queue.profiles)", readableSize(queue.bytes), readableTime(oldest.time),
                readableSpan(nanoseconds: now.subtractingSaturated(oldest.time)), retry, "\(oldest.attempts)", note,
            ])
        }
        return table.lines
    }

    private static func json(_ queues: [QueueSummary], _ place: QueuePlace) -> [String] {
        let now = MonotonicTime.unixNanoseconds
        let objects = queues.map { queue in
            let isConfigured = place.isConfigured(queue.receiver).map { "\($0)" } ?? "null"
            let head = "{\"receiver\":\(JSONValue.quoted(queue.receiver)),\"configured\":\(isConfigured)"
            guard let oldest = queue.oldest else {
                return head + ",\"profiles\":0,\"bytes\":0,\"oldest\":null,\"age_seconds\":null,\"next_retry\":null,\"attempts\":0}"
            }
            return """
                \(head),"profiles":\(queue.profiles),"bytes":\(queue.bytes),"oldest":"\(readableTime(oldest.time))",\
                "age_seconds":\(max(0, now.subtractingSaturated(oldest.time)) / 1_000_000_000),\
                "next_retry":"\(queue.nextRetry.map(readableTime) ?? "now")","attempts":\(oldest.attempts)}
                """
        }
        return ["[\(objects.joined(separator: ",\n "))]"]
    }
}
