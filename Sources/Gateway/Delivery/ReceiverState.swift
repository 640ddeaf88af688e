import LinuxSystem

/// The decisions of a receiver, made with its lock held.
extension Receiver.State {
    /// Takes an entry out of the queue and notes what its sender is to be told.
    mutating func settle(_ handle: ReceiverQueue.Handle, _ settlement: Settlement) {
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
        if let read = refill(now) { return .done(.read(read)) }
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
            // What follows in the spool is looked at when it is read.
            guard let oldest = queue.oldestWaiting, queue[oldest].acceptedAt + maxAge <= now else { return false }
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
        tellThoseBehindCursor()
        // What else is left is open, at this instance or at one before it.
        let open = queue.handles.filter { queue.isOpen($0) && queue[$0].position == nil }.count
        return (dropped + open, queuedCount - open)
    }

    /// What the receiver's health is, and why.
    var health: (Health, reason: String) {
        if isOverdue { return (.failed, "a call into the plugin, or a delivery, is longer than delivery_timeout") }
        if pace.isFailing { return (.failed, failingReason) }
        if let failure = backlog?.reader.spool.failure { return (.failed, "the spool cannot store profiles: \(failure)") }
        if let failure = backlog?.failure { return (failure.health, "the spool cannot be read: \(failure.error)") }
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
