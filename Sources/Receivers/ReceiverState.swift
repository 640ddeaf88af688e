import LinuxSystem
import PluginHost
import SpoolStore

/// The decisions of a receiver; every method runs with its lock held.
extension Receiver.State {
    /// Removes an entry from the queue, and notes the result for its sender.
    mutating func settle(_ handle: ReceiverQueue.Handle, _ settlement: Settlement) {
        if let acknowledgement = queue[handle].acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position = queue[handle].position {
            backlog?.reader.settle(position)
            if queue[handle].profile != nil { backlog?.resident -= queue[handle].byteCount }
        }
        suspects.forget(queue[handle].sequence)
        queue.remove(handle)
    }

    mutating func drop(_ handle: ReceiverQueue.Handle, _ reason: DropReason, status: Int = 0, message: String = "") {
        note(queue[handle].sequence, .dropped(reason, why: message))
        settle(handle, reason == .shutdown ? .unavailable : .failed(status: status, isRetryable: reason != .rejected, message: message))
        account.drop(reason)
    }

    // MARK: Closing and health

    /// Ends deliveries for good: profiles that wait only in memory are dropped, those in the spool stay there.
    ///
    /// - Returns: the numbers of profiles that are dropped and that stay.
    mutating func close() -> (dropped: Int, kept: Int) {
        isClosed = true
        var dropped = 0
        for handle in queue.handles where !queue.isOpen(handle) {
            if queue[handle].position == nil {
                drop(handle, .shutdown)
                dropped += 1
            } else if let acknowledgement = queue[handle].acknowledgement {
                settlements.append((acknowledgement, .staysQueued))
                queue[handle].acknowledgement = nil
            }
        }
        tellThoseBehindCursor()
        // The remaining profiles in memory are open at this instance or an earlier one.
        let open = queue.handles.filter { queue.isOpen($0) && queue[$0].position == nil }.count
        return (dropped + open, queuedCount - open)
    }

    /// The receiver's health, and the reason.
    var health: (Health, reason: String) {
        if let startRefusal { return (.failed, startRefusal) }
        if let failure = serving?.failure { return (.failed, failure) }
        if let failure = backlog?.reader.spool.failure { return (.failed, "the spool cannot store profiles: \(failure)") }
        if let failure = backlog?.failure { return (failure.health, "the spool cannot be read: \(failure.error)") }
        if let late = backlog?.reader.spool.unreadable.first {
            return (.degraded, "\(late.file) of the spool cannot be read: \(late.error)")
        }
        if let letterError { return (.degraded, "dead letters cannot be written: \(letterError)") }
        if let stated = serving?.stated, stated.health != .ok { return stated }
        if let breach = breaches.recent(.now) { return (.degraded, "the plugin broke its contract: \(breach.what)") }
        return (.ok, serving?.stated.reason ?? "")
    }
}

/// The drops since the last log line about them: a full queue drops thousands of profiles, which are logged together.
struct DropReports {
    private var counts: [DropReason: Int] = [:]
    private var lastReport = MonotonicTime(nanoseconds: 0)

    mutating func count(_ reason: DropReason, _ count: Int = 1) { counts[reason, default: 0] += count }

    /// The text to log now, at most every ten seconds; nil for nothing.
    mutating func due(_ now: MonotonicTime) -> String? {
        guard !counts.isEmpty, now.nanoseconds - lastReport.nanoseconds > 10_000_000_000 else { return nil }
        defer { (counts, lastReport) = ([:], now) }
        return counts.map { "\($0.value) \($0.key.rawValue)" }.sorted().joined(separator: ", ")
    }
}
