import Glibc
import LinuxSystem
import Profiles
import SpoolStore

/// The part of a receiver's queue that is in the spool; every method runs with the receiver's lock held.
extension Receiver.State {
    var needsRefill: Bool {
        mutating get {
            guard let backlog, backlog.count > 0, queue.count < Backlog.mostDelayed else { return false }
            // A failing receiver is probed with profiles that were never tried, which may still be in the spool.
            return (serving?.pace.isFailing == true ? queue.freshCount : queue.readyCount) < Backlog.fewReady
        }
    }

    /// Returns the read to make before the ready entries run out; nil when none is needed or possible now.
    mutating func refill(_ now: MonotonicTime) -> Backlog.Read? {
        guard needsRefill, backlog?.failure.map({ $0.retryAt <= now }) ?? true else { return nil }
        return backlog?.toRead
    }

    /// Adds the entries that were read without the lock.
    mutating func refilled(_ read: Backlog.Read, now: MonotonicTime) {
        // If no records were found although there should be some, a second read with the lock held decides.
        if read.isEmpty { return needsRefill ? readNext(now) : () }
        for entry in backlog?.entries(of: read, now, owner: owner) ?? [] { queue.append(entry) }
    }

    /// Reads the next entries with the lock held, as eviction needs it.
    mutating func readNext(_ now: MonotonicTime) {
        guard let entries = backlog?.next(now, owner: owner) else {
            tellThoseBehindCursor()
            let lost = backlog?.countRestAsLost() ?? 0
            account.drop(.damaged, lost)
            return drops.count(.damaged, lost)
        }
        for entry in entries { queue.append(entry) }
    }

    /// Returns the oldest entry that may be evicted, reading from the spool if necessary.
    mutating func oldestWaiting(_ now: MonotonicTime) -> ReceiverQueue.Handle? {
        while true {
            if let oldest = queue.oldestWaiting { return oldest }
            guard let backlog, backlog.count > 0 else { return nil }
            let before = backlog.count
            readNext(now)
            if self.backlog?.count == before { return nil }
        }
    }

    /// Drops up to 1024 profiles that wait in one segment of the spool.
    ///
    /// - Parameter spared: shares whose profiles are kept.
    /// - Returns: false when there is nothing more to drop in the segment.
    mutating func dropSome(in segment: UInt64, sparing spared: Set<ShareKey>, now: MonotonicTime) -> Bool {
        var victims: [ReceiverQueue.Handle] = []
        for handle in queue.handles where victims.count < 1024 {
            let entry = queue[handle]
            let isVictim = entry.place != .open && entry.position?.segment == segment && !spared.contains(entry.share)
            if isVictim { victims.append(handle) }
        }
        for victim in victims {
            drop(victim, .spoolFull)
            drops.count(.spoolFull)
        }
        return !victims.isEmpty || readMore(of: segment, now: now)
    }

    /// Reads on if more records of a segment may follow the cursor; returns false when there are none, or they cannot be held or
    /// read.
    private mutating func readMore(of segment: UInt64, now: MonotonicTime) -> Bool {
        guard let backlog, backlog.count > 0, !backlog.isPast(segment), queue.count < Backlog.mostDelayed else { return false }
        let before = backlog.count
        readNext(now)
        return backlog.count != before
    }

    /// Returns the positions of all unsettled records of a segment; nil when they are too many for memory or cannot be read, or the
    /// queue is not attached yet.
    mutating func positions(in segment: UInt64, now: MonotonicTime) -> [SpoolPosition]? {
        guard backlog != nil else { return nil }
        while readMore(of: segment, now: now) {}
        if let backlog, backlog.count > 0, !backlog.isPast(segment) { return nil }
        return queue.handles.compactMap { queue[$0].position }.filter { $0.segment == segment }
    }

    /// Takes the new positions of records that were copied.
    ///
    /// - Returns: the new positions of records that have been settled meanwhile.
    mutating func move(from segment: UInt64, _ places: [UInt32: SpoolPosition]) -> [SpoolPosition] {
        var rest = places
        for handle in queue.handles {
            guard let old = queue[handle].position, old.segment == segment, let new = rest.removeValue(forKey: old.offset) else { continue }
            queue[handle].position = new
            let entry = queue[handle]
            if entry.attempts > 0 { backlog?.reader.attempted(new, attempt(of: entry, due: 0)) }
        }
        return Array(rest.values)
    }

    func attempt(of entry: ReceiverQueue.Entry, due: Int64) -> SpoolAttempt {
        SpoolAttempt(count: entry.attempts, progress: entry.progress, due: due, owner: owner)
    }

    /// Stores a profile that was read from the spool in its entry.
    ///
    /// - Returns: false when its instance was abandoned during the read: the next instance gets the profile.
    mutating func loaded(_ profile: ReceivedProfile, _ handle: ReceiverQueue.Handle, _ token: UInt?) -> Bool {
        guard isOpen(token) else { return false }
        backlog?.noteRead()
        (queue[handle].profile, queue[handle].failedReads) = (profile, 0)
        return true
    }

    private func isOpen(_ token: UInt?) -> Bool { token.map { open.isOpen($0) } ?? true }

    /// The number of failed reads, a second apart, after which a record counts as damaged, because a disk may fail temporarily.
    private static let mostFailedReads = 5

    /// Decides how a failed read is treated: as damage once it has failed often enough.
    mutating func judge(
        _ failure: SpoolQueue.ReadFailure, _ handle: ReceiverQueue.Handle, _ token: UInt?
    ) -> SpoolQueue.ReadFailure {
        let what: String
        switch failure {
        case .failing(let error): what = "\(error)"
        case .moved: what = "it is nowhere"
        case .system, .damaged: return failure
        }
        guard isOpen(token) else { return failure }
        queue[handle].failedReads += 1
        return queue[handle].failedReads < Self.mostFailedReads ? failure : .damaged(what)
    }

    /// Handles an open profile that could not be read from the spool.
    mutating func unreadable(
        _ handle: ReceiverQueue.Handle, _ token: UInt?, _ failure: SpoolQueue.ReadFailure, now: MonotonicTime
    ) {
        if let token, closeOperation(token) == nil { return }
        let entry = queue[handle]
        suspects.returned(entry.sequence)
        backlog?.resident -= entry.byteCount
        switch failure {
        case .damaged:
            if entry.letter != nil { burying -= 1 }
            drop(handle, .damaged)
            drops.count(.damaged)
        case .moved, .failing, .system:
            if case .system(let error) = failure { backlog?.note(error, now) }
            // The plugin did not get the profile, so this does not count as an attempt.
            if entry.letter == nil { queue[handle].attempts -= 1 } else { burying -= 1 }
            let isMoved = if case .moved = failure { true } else { false }
            queue.delay(handle, until: isMoved ? now : now + .seconds(1))
        }
    }

    /// Takes an open profile back, which the plugin has not finished.
    mutating func takeBack(_ handle: ReceiverQueue.Handle) {
        let entry = queue[handle]
        suspects.returned(entry.sequence)
        // It was being read from the spool, and nobody takes the result.
        if entry.position != nil, entry.profile == nil { backlog?.resident -= entry.byteCount }
        if isClosed { leaveInSpool(handle) } else { queue.putBack(handle) }
    }

    /// Frees the bytes of a profile that waits again and is on disk.
    mutating func unload(_ handle: ReceiverQueue.Handle) {
        guard queue[handle].position != nil, queue[handle].profile != nil else { return }
        queue[handle].profile = nil
        backlog?.resident -= queue[handle].byteCount
    }
}
