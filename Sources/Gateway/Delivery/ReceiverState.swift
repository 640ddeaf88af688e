import Glibc
import LinuxSystem

/// The decisions of a receiver, made with its lock held.
extension Receiver.State {
    /// Takes a profile in and evicts the oldest that wait until the queue's bounds hold.
    ///
    /// - Parameters:
    ///   - position: where it is in the spool; nil when it is in memory alone.
    ///   - isPromised: true when room was reserved for it.
    mutating func accept(
        _ profile: Profile, at position: SpoolPosition? = nil, _ acknowledgement: Acknowledgement?, _ bounds: QueueConfig,
        isPromised: Bool = false, _ now: MonotonicTime
    ) {
        account.accepted += 1
        let size = position.map { Int($0.length) } ?? profile.byteCount
        if phase == .ended {
            // Too late for the last look at the queue; what is in the spool is delivered after the next start.
            if let position { return keep(profile, at: position, acknowledgement) }
            return refuse(.shutdown, at: nil, acknowledgement, .failed(status: 503, isRetryable: true))
        }
        guard size <= bounds.maxBytes else {
            drops.count(.tooLarge)
            return refuse(.tooLarge, at: position, acknowledgement, .failed(status: 0, isRetryable: false))
        }
        if bounds.onFull == .reject, !isPromised, !hasRoom(count: 1, bytes: size, bounds) {
            // Only a receiver that is not required comes here without room.
            drops.count(.queueFull)
            return refuse(.queueFull, at: position, acknowledgement, .failed(status: 0, isRetryable: true))
        }
        append(profile, at: position, size, acknowledgement, now)
        while bounds.onFull == .dropOldest, queuedBytes > bounds.maxBytes || queuedCount > bounds.maxProfiles {
            // What is open is never evicted, so the newcomer itself may be the oldest that waits.
            guard let oldest = oldestWaiting(now) else { return }
            drop(oldest, .queueFull)
            drops.count(.queueFull)
        }
    }

    /// Counts a profile that could not be stored in the spool.
    mutating func acceptUnstored(_ acknowledgement: Acknowledgement?) {
        account.accepted += 1
        drops.count(.spoolFull)
        refuse(.spoolFull, at: nil, acknowledgement, .failed(status: 503, isRetryable: true))
    }

    private mutating func refuse(
        _ reason: DropReason, at position: SpoolPosition?, _ acknowledgement: Acknowledgement?, _ settlement: Settlement
    ) {
        if let acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position { backlog?.refuse(position) }
        account.drop(reason)
    }

    private mutating func append(
        _ profile: Profile, at position: SpoolPosition?, _ size: Int, _ acknowledgement: Acknowledgement?, _ now: MonotonicTime
    ) {
        guard let position, let waiting = backlog else { return queue.append(profile, acknowledgement, now: now) }
        guard waiting.count == 0, queue.count < Backlog.mostEntries else {
            backlog?.append(position, sequence: profile.sequence, acknowledgement)
            return
        }
        backlog?.pass(position)
        let isKept = waiting.resident + size <= Backlog.keptBytes
        if isKept { backlog?.resident += size }
        queue.append(
            ReceiverQueue.Entry(
                isKept ? profile : nil, sequence: profile.sequence, byteCount: size, position: position, acknowledgement,
                acceptedAt: now))
    }

    /// Leaves a profile in the spool for the next start.
    private mutating func keep(_ profile: Profile, at position: SpoolPosition, _ acknowledgement: Acknowledgement?) {
        backlog?.append(position, sequence: profile.sequence, nil)
        if let acknowledgement { settlements.append((acknowledgement, Self.kept)) }
    }

    /// What a sender is told whose profile stays in the spool.
    private static let kept = Settlement.failed(status: 504, isRetryable: true)

    /// Waiting and open, in memory and behind the spool's cursor.
    var queuedCount: Int { queue.count + (backlog?.count ?? 0) }
    var queuedBytes: Int { queue.byteCount + (backlog?.byteCount ?? 0) }

    private func hasRoom(count: Int, bytes: Int, _ bounds: QueueConfig) -> Bool {
        queuedCount + reserved.profiles + count <= bounds.maxProfiles && queuedBytes + reserved.bytes + bytes <= bounds.maxBytes
    }

    /// Promises room, so that a request is accepted by all of its receivers or by none.
    ///
    /// A profile that no queue could ever hold needs no room: it is dropped when it comes.
    mutating func reserve(_ profiles: [Profile], _ bounds: QueueConfig) -> Bool {
        let (count, bytes) = Self.need(of: profiles, bounds)
        guard count == 0 || hasRoom(count: count, bytes: bytes, bounds) else { return false }
        reserved = (reserved.profiles + count, reserved.bytes + bytes)
        return true
    }

    mutating func release(_ profiles: [Profile], _ bounds: QueueConfig) {
        let (count, bytes) = Self.need(of: profiles, bounds)
        reserved = (reserved.profiles - count, reserved.bytes - bytes)
    }

    private static func need(of profiles: [Profile], _ bounds: QueueConfig) -> (count: Int, bytes: Int) {
        let fitting = profiles.lazy.map(\.byteCount).filter { $0 <= bounds.maxBytes }
        return (fitting.count, fitting.reduce(0, +))
    }

    mutating func takeSettlements() -> [(Acknowledgement, Settlement)] {
        if settlements.isEmpty { return [] }
        defer { settlements = [] }
        return settlements
    }

    /// Takes an entry out of the queue and notes what its sender is to be told.
    private mutating func settle(_ handle: ReceiverQueue.Handle, _ settlement: Settlement) {
        let entry = queue[handle]
        if let acknowledgement = entry.acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position = entry.position {
            backlog?.reader.settle(position)
            if entry.profile != nil { backlog?.resident -= entry.byteCount }
        }
        queue.remove(handle)
    }

    mutating func drop(_ handle: ReceiverQueue.Handle, _ reason: DropReason, status: Int = 0) {
        let status = reason == .shutdown ? 503 : status
        settle(handle, .failed(status: status, isRetryable: reason != .rejected))
        account.drop(reason)
    }

    /// Decides what the delivery thread does next.
    mutating func nextStep(_ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        (callSince, sleepsUntil) = (nil, nil)
        queue.wake(now: now)
        let isMoreOld = phase != .ended && dropOld(config.queue, now)
        if isMoreOld || !settlements.isEmpty { return .done(.tell(takeSettlements())) }
        if phase == .ended { return open.count == 0 && !isAborting ? .done(.end) : .again(.never) }
        refill(now)
        if mayDeliver(config, now), let handle = queue.open() {
            if queue[handle].position != nil, queue[handle].profile == nil { backlog?.resident += queue[handle].byteCount }
            if let letter = queue[handle].letter {
                burying += 1
                return .done(.bury(queue[handle], handle, letter))
            }
            queue[handle].attempts += 1
            callSince = now
            return .done(.deliver(queue[handle], handle, token: open.open(.delivery(handle), now: now)))
        }
        if phase == .draining, queuedCount == 0, open.count == 0 {
            phase = .flushing
            callSince = now
            return .done(.flush(token: open.open(.flush, now: now)))
        }
        if queue.takePeak() >= Self.largeBacklog { return .done(.returnMemory) }
        let next = nextEvent(config.queue)
        sleepsUntil = next
        return .again(next)
    }

    /// From here on a backlog's memory is given back to the system when it is over.
    private static let largeBacklog = 4 << 20

    private func mayDeliver(_ config: ReceiverConfig, _ now: MonotonicTime) -> Bool {
        guard let next = queue.firstReady, open.deliveryCount < config.maxInFlight, pace.allows(open: open.deliveryCount, now: now)
        else { return false }
        guard let backlog, queue[next].position != nil, queue[next].profile == nil else { return true }
        return (open.deliveryCount == 0 && burying == 0) || backlog.resident + queue[next].byteCount <= Backlog.openBytes
    }

    // MARK: From the spool

    private var needsRefill: Bool {
        guard let backlog, backlog.count > 0, queue.count < Backlog.mostDelayed else { return false }
        return queue.readyCount < Backlog.fewReady
    }

    /// Reads what comes next in the spool before the ready ones run out.
    private mutating func refill(_ now: MonotonicTime) {
        while needsRefill, backlog?.failure.map({ $0.retryAt <= now }) ?? true { readNext(now) }
    }

    private mutating func readNext(_ now: MonotonicTime) {
        guard let entries = backlog?.next(now, owner: owner) else {
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
    /// - Returns: false when nothing more waits there.
    mutating func dropSome(in segment: UInt64, now: MonotonicTime) -> Bool {
        for _ in 0..<1024 {
            guard let oldest = oldestWaiting(now, in: segment) else { return false }
            drop(oldest, .spoolFull)
            drops.count(.spoolFull)
        }
        return true
    }

    private mutating func oldestWaiting(_ now: MonotonicTime, in segment: UInt64) -> ReceiverQueue.Handle? {
        // Copies stand behind younger ones, so the oldest need not be the first.
        if let found = queue.oldestWaiting, queue[found].position?.segment == segment { return found }
        if let found = queue.handles.first(where: { !queue.isOpen($0) && queue[$0].position?.segment == segment }) { return found }
        while let backlog, backlog.count > 0, !backlog.isPast(segment) {
            let known = queue.count
            readNext(now)
            guard queue.count > known || self.backlog?.count != backlog.count else { return nil }
            if let found = queue.newest(queue.count - known).first(where: { queue[$0].position?.segment == segment }) { return found }
        }
        return nil
    }

    /// All that is not settled in a segment; nil when it cannot all be held.
    mutating func positions(in segment: UInt64, now: MonotonicTime) -> [SpoolPosition]? {
        while let backlog, backlog.count > 0, !backlog.isPast(segment) {
            guard queue.count < Backlog.mostDelayed else { return nil }
            readNext(now)
            if self.backlog?.count == backlog.count { return nil }
        }
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

    private func attempt(of entry: ReceiverQueue.Entry, due: Int64) -> SpoolAttempt {
        SpoolAttempt(count: entry.attempts, progress: entry.progress, due: due, owner: owner)
    }

    /// Holds a profile that was read for its delivery.
    mutating func loaded(_ profile: Profile, _ handle: ReceiverQueue.Handle) { queue[handle].profile = profile }

    /// Takes note that an open profile could not be read from the spool.
    mutating func unreadable(_ handle: ReceiverQueue.Handle, _ failure: SpoolReceiver.ReadFailure, now: MonotonicTime) {
        let entry = queue[handle]
        backlog?.resident -= entry.byteCount
        switch failure {
        case .damaged:
            if entry.letter != nil { burying -= 1 }
            drop(handle, .damaged)
            drops.count(.damaged)
        case .moved, .system:
            // It was not handed over, so it was no attempt.
            if entry.letter == nil { queue[handle].attempts -= 1 } else { burying -= 1 }
            let isMoved = if case .moved = failure { true } else { false }
            queue.delay(handle, until: isMoved ? now : now + .seconds(1))
        }
    }

    /// Lets go the bytes of a profile that waits again and is on disk.
    private mutating func unload(_ handle: ReceiverQueue.Handle) {
        guard queue[handle].position != nil, queue[handle].profile != nil else { return }
        queue[handle].profile = nil
        backlog?.resident -= queue[handle].byteCount
    }

    /// Whether the delivery thread sleeps and has something to do; waking it for nothing costs more than a delivery.
    func mustWake(_ config: ReceiverConfig, now: MonotonicTime) -> Bool {
        if phase != .running { return true }
        guard let sleepsUntil else { return false }
        return mayDeliver(config, now) || needsRefill || nextEvent(config.queue) < sleepsUntil || queue.isOver(Self.largeBacklog)
    }

    /// When something happens by time alone.
    private func nextEvent(_ bounds: QueueConfig) -> MonotonicTime {
        var next = queue.nextDue
        // While a probe is open its outcome is waited for, not a time that has passed.
        if pace.isFailing, queue.hasReady, open.deliveryCount == 0 { next = min(next, max(pace.nextProbe, MonotonicTime(nanoseconds: 1))) }
        if needsRefill, let failure = backlog?.failure { next = min(next, failure.retryAt) }
        if let maxAge = bounds.maxAge, let oldest = queue.oldestWaiting { next = min(next, queue[oldest].acceptedAt + maxAge) }
        return next
    }

    /// Drops what is too old, a few at a time, for others want the lock too.
    ///
    /// - Returns: whether there may be more.
    private mutating func dropOld(_ bounds: QueueConfig, _ now: MonotonicTime) -> Bool {
        guard let maxAge = bounds.maxAge else { return false }
        for _ in 0..<1024 {
            guard let oldest = oldestWaiting(now), queue[oldest].acceptedAt + maxAge <= now else { return false }
            drop(oldest, .maxAge)
            drops.count(.maxAge)
        }
        return true
    }

    /// Settles one operation; nil when the token stands for none.
    mutating func settle(
        _ token: UInt, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> (events: [Event], openedAt: MonotonicTime?)? {
        guard let (operation, openedAt) = open.close(token) else { return nil }
        guard case .delivery(let handle) = operation else {
            phase = .ended
            return ([], nil)
        }
        let events: [Event]
        switch outcome.status {
        case .delivered:
            settle(handle, .delivered)
            account.delivered += 1
            events = alive()
        case .rejected:
            lastError = outcome.reason
            // A refusal without an answer of the destination says nothing about its health.
            let isAnswer = outcome.httpStatus != 0 || !pace.isFailing
            events = giveUp(handle, .rejected, outcome) + (isAnswer ? alive() : [])
        case .retry, .aborted: events = retry(handle, outcome, config, now)
        }
        return (events, openedAt)
    }

    private mutating func alive() -> [Event] {
        guard pace.sawLife() else { return [] }
        queue.wake(now: .never)
        failingReason = ""
        return [.recovered]
    }

    private mutating func retry(
        _ handle: ReceiverQueue.Handle, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> [Event] {
        let entry = queue[handle]
        account.retries += 1
        lastError = outcome.reason
        if phase == .ended {
            leave(handle)
            return []
        }
        if config.retry.isExhausted(attempts: entry.attempts) {
            return giveUp(handle, .retriesExhausted, outcome) + sawRetry(of: entry, outcome, config.retry, now)
        }
        queue[handle].progress = outcome.progress
        // Something got further than the last time, so the destination is not dead.
        let events: [Event]
        if outcome.progress != entry.progress {
            events = alive()
        } else if outcome.progress != 0, !pace.isFailing {
            // Part of the way is behind it: one destination of several is dead, which says nothing about the receiver.
            events = []
        } else {
            events = sawRetry(of: entry, outcome, config.retry, now)
        }
        var due = pace.nextProbe
        if pace.isFailing {
            queue.putBack(handle)
        } else {
            due = now + max(Self.held(outcome.retryAfter), config.retry.delay(afterAttempt: entry.attempts))
            queue.delay(handle, until: due)
        }
        unload(handle)
        if let position = entry.position, outcome.progress != entry.progress || Self.isNoted(entry.attempts) {
            let unixDue = MonotonicTime.unixNanoseconds + max(0, due.nanoseconds - now.nanoseconds)
            backlog?.reader.attempted(position, attempt(of: queue[handle], due: unixDue))
        }
        return events
    }

    /// The first attempts, then fewer and fewer: what waits for months is not to fill the disk with its attempts.
    private static func isNoted(_ attempts: Int) -> Bool { attempts <= 8 || attempts & (attempts - 1) == 0 }

    // MARK: Given up

    /// Gives a profile up for good: to the dead letters where there are any.
    private mutating func giveUp(_ handle: ReceiverQueue.Handle, _ reason: DropReason, _ outcome: DeliveryOutcome) -> [Event] {
        let sequence = queue[handle].sequence
        if phase == .ended, queue[handle].position != nil {
            leave(handle)
            return []
        }
        guard keepsDeadLetters, phase != .ended else {
            drop(handle, reason, status: outcome.httpStatus)
            return [.dropped(reason, sequence: sequence)]
        }
        // The sender is told now; the profile is settled once the letter is durable.
        if let acknowledgement = queue[handle].acknowledgement {
            settlements.append((acknowledgement, .failed(status: outcome.httpStatus, isRetryable: reason != .rejected)))
            queue[handle].acknowledgement = nil
        }
        queue[handle].letter = ReceiverQueue.Letter(outcome: outcome, reason: reason)
        burying += 1
        return [.gaveUp(reason, handle, sequence: sequence)]
    }

    /// Takes note that a dead letter is durable, or why it is not: it is tried again then.
    mutating func buried(_ handle: ReceiverQueue.Handle, _ error: SystemError?, _ policy: RetryPolicy, now: MonotonicTime) {
        burying -= 1
        guard let error else {
            settle(handle, .delivered)
            account.deadLettered += 1
            letterFailures = 0
            letterError = nil
            return
        }
        if let letter = queue[handle].letter, [EFBIG, EEXIST].contains(error.code) {
            // Asking again would not help.
            return drop(handle, letter.reason, status: letter.outcome.httpStatus)
        }
        letterFailures += 1
        letterError = "\(error)"
        unload(handle)
        queue.delay(handle, until: now + policy.delay(afterAttempt: letterFailures))
    }

    /// Leaves an open profile to the next start, or drops it where there is none for it.
    mutating func leave(_ handle: ReceiverQueue.Handle) {
        guard queue[handle].position != nil else { return drop(handle, .shutdown) }
        if let acknowledgement = queue[handle].acknowledgement { settlements.append((acknowledgement, Self.kept)) }
        queue[handle].acknowledgement = nil
        unload(handle)
        queue.putBack(handle)
    }

    /// A wait that a destination asks for, held to a day: whatever it says, it is asked again some time.
    private static func held(_ retryAfter: Duration) -> Duration { min(retryAfter, .seconds(86_400)) }

    private mutating func sawRetry(
        of entry: ReceiverQueue.Entry, _ outcome: DeliveryOutcome, _ policy: RetryPolicy, _ now: MonotonicTime
    ) -> [Event] {
        let began = pace.sawRetry(
            of: entry.sequence, notBefore: now + Self.held(outcome.retryAfter), open: open.deliveryCount, policy: policy,
            now: now)
        if pace.isFailing { failingReason = outcome.reason }
        guard began else { return [] }
        // From here on the probes' clock rules, not that of each profile.
        queue.wake(now: .never)
        return [.failing]
    }

    /// Ends deliveries for good: what waits in memory alone is dropped, the spool keeps what is its.
    ///
    /// - Returns: how many were dropped, and how many stay.
    mutating func stop() -> (dropped: Int, kept: Int) {
        phase = .ended
        var dropped = 0
        for handle in queue.handles where !queue.isOpen(handle) {
            if queue[handle].position == nil {
                drop(handle, .shutdown)
                dropped += 1
            } else if let acknowledgement = queue[handle].acknowledgement {
                settlements.append((acknowledgement, Self.kept))
                queue[handle].acknowledgement = nil
            }
        }
        for acknowledgement in backlog?.takeAcknowledgements() ?? [] { settlements.append((acknowledgement, Self.kept)) }
        // What else is left is open, at this instance or at one before it.
        let open = queue.handles.filter { queue.isOpen($0) && queue[$0].position == nil }.count
        return (dropped + open, queuedCount - open)
    }

    /// What the receiver's health is, and why.
    var health: (Health, reason: String) {
        if isOverdue { return (.failed, "a call into the plugin, or a delivery, is longer than delivery_timeout") }
        if pace.isFailing { return (.failed, failingReason) }
        if let failure = backlog?.reader.spool.failure { return (.failed, "the spool cannot store profiles: \(failure)") }
        if let failure = backlog?.failure { return (.failed, "the spool cannot be read: \(failure.text)") }
        if let letterError { return (.degraded, "dead letters cannot be written: \(letterError)") }
        return (stated, statedReason)
    }
}

/// Drops since the last line about them: a full queue drops thousands, and the log says so once in a while.
struct DropReports {
    private var counts: [DropReason: Int] = [:]
    private var lastReport = MonotonicTime(nanoseconds: 0)

    mutating func count(_ reason: DropReason, _ count: Int = 1) { counts[reason, default: 0] += count }

    /// What to write now, if anything: at most a line each ten seconds.
    mutating func due(_ now: MonotonicTime) -> String? {
        guard !counts.isEmpty, now.nanoseconds - lastReport.nanoseconds > 10_000_000_000 else { return nil }
        defer { (counts, lastReport) = ([:], now) }
        return counts.map { "\($0.value) \($0.key.rawValue)" }.sorted().joined(separator: ", ")
    }
}
