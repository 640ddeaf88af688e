import Glibc
import LinuxSystem

/// What of a receiver's queue is in the spool; with its lock held.
extension Receiver.State {
    var needsRefill: Bool {
        guard let backlog, backlog.count > 0, queue.count < Backlog.mostDelayed else { return false }
        // A receiver that is failing is probed with what was never tried, which may be in the spool yet.
        return (serving?.pace.isFailing == true ? queue.freshCount : queue.readyCount) < Backlog.fewReady
    }

    /// What is to be read from the spool before the ready ones run out.
    func refill(_ now: MonotonicTime) -> Backlog.Read? {
        guard needsRefill, backlog?.failure.map({ $0.retryAt <= now }) ?? true else { return nil }
        return backlog?.toRead
    }

    /// Takes in what was read without the lock.
    mutating func refilled(_ read: Backlog.Read, now: MonotonicTime) {
        // Where nothing is found that should be there, another look with the lock decides.
        if read.isEmpty { return needsRefill ? readNext(now) : () }
        for entry in backlog?.take(read, now, owner: owner) ?? [] { queue.append(entry) }
    }

    /// Reads what comes next in place, as eviction needs it.
    mutating func readNext(_ now: MonotonicTime) {
        guard let entries = backlog?.next(now, owner: owner) else {
            tellThoseBehindCursor()
            let lost = backlog?.giveUp() ?? 0
            account.drop(.damaged, lost)
            return drops.count(.damaged, lost)
        }
        for entry in entries { queue.append(entry) }
    }

    /// The oldest that may be evicted, also where the spool has to be asked for it.
    mutating func oldestWaiting(_ now: MonotonicTime) -> ReceiverQueue.Handle? {
        while true {
            if let oldest = queue.oldestWaiting { return oldest }
            guard let backlog, backlog.count > 0 else { return nil }
            let before = backlog.count
            readNext(now)
            if self.backlog?.count == before { return nil }
        }
    }

    /// Drops what waits in one segment of the spool, a few at a time.
    ///
    /// - Parameter spared: whose profiles stay.
    /// - Returns: false when nothing more is to be dropped there.
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

    /// Reads on where more of a segment may be behind the cursor; false when there is nothing, or it cannot be held or read.
    private mutating func readMore(of segment: UInt64, now: MonotonicTime) -> Bool {
        guard let backlog, backlog.count > 0, !backlog.isPast(segment), queue.count < Backlog.mostDelayed else { return false }
        readNext(now)
        return self.backlog?.count != backlog.count
    }

    /// All that is not settled in a segment; nil when it cannot all be held, or is not known yet.
    mutating func positions(in segment: UInt64, now: MonotonicTime) -> [SpoolPosition]? {
        guard backlog != nil else { return nil }
        while readMore(of: segment, now: now) {}
        if let backlog, backlog.count > 0, !backlog.isPast(segment) { return nil }
        return queue.handles.compactMap { queue[$0].position }.filter { $0.segment == segment }
    }

    /// Takes the new places of records that were written again.
    ///
    /// - Returns: the places of those that are settled by now.
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

    /// Holds a profile that was read for its delivery.
    ///
    /// - Returns: false when its instance was given up while the disk was slow: another one has it, or will.
    mutating func loaded(_ profile: Profile, _ handle: ReceiverQueue.Handle, _ token: UInt?) -> Bool {
        guard isOpen(token) else { return false }
        backlog?.noteRead()
        (queue[handle].profile, queue[handle].failedReads) = (profile, 0)
        return true
    }

    private func isOpen(_ token: UInt?) -> Bool { token.map { open.isOpen($0) } ?? true }

    /// A disk may fail for a moment, so a profile is lost to it only after so many failures, a second apart.
    private static let mostFailedReads = 5

    /// Decides what a failed read means.
    mutating func judge(
        _ failure: SpoolReceiver.ReadFailure, _ handle: ReceiverQueue.Handle, _ token: UInt?
    ) -> SpoolReceiver.ReadFailure {
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

    /// Takes note that an open profile could not be read from the spool.
    mutating func unreadable(
        _ handle: ReceiverQueue.Handle, _ token: UInt?, _ failure: SpoolReceiver.ReadFailure, now: MonotonicTime
    ) {
        if let token, closeOperation(token) == nil { return }
        let entry = queue[handle]
        backlog?.resident -= entry.byteCount
        switch failure {
        case .damaged:
            if entry.letter != nil { burying -= 1 }
            drop(handle, .damaged)
            drops.count(.damaged)
        case .moved, .failing, .system:
            if case .system(let error) = failure { backlog?.note(error, now) }
            // It was not handed over, so it was no attempt.
            if entry.letter == nil { queue[handle].attempts -= 1 } else { burying -= 1 }
            let isMoved = if case .moved = failure { true } else { false }
            queue.delay(handle, until: isMoved ? now : now + .seconds(1))
        }
    }

    /// Lets go the bytes of a profile that waits again and is on disk.
    mutating func unload(_ handle: ReceiverQueue.Handle) {
        guard queue[handle].position != nil, queue[handle].profile != nil else { return }
        queue[handle].profile = nil
        backlog?.resident -= queue[handle].byteCount
    }
}
