import LinuxSystem

/// The decisions of a receiver, made with its lock held.
extension Receiver.State {
    /// Takes a profile in and evicts the oldest that wait until the queue's bounds hold.
    mutating func accept(
        _ profile: Profile, _ acknowledgement: Acknowledgement?, _ bounds: QueueConfig, _ now: MonotonicTime
    ) {
        account.accepted += 1
        guard phase != .ended else {
            // Too late for the last look at the queue, so nobody else would settle it.
            if let acknowledgement { settlements.append((acknowledgement, .failed(status: 503, isRetryable: true))) }
            return account.drop(.shutdown)
        }
        guard profile.byteCount <= bounds.maxBytes else {
            if let acknowledgement { settlements.append((acknowledgement, .failed(status: 0, isRetryable: false))) }
            account.drop(.tooLarge)
            return drops.count(.tooLarge)
        }
        if bounds.onFull == .reject, !hasRoom(count: 1, bytes: profile.byteCount, bounds) {
            // Only a receiver that is not required comes here without room.
            account.drop(.queueFull)
            return drops.count(.queueFull)
        }
        queue.append(profile, acknowledgement, now: now)
        while queue.byteCount > bounds.maxBytes || queue.count > bounds.maxProfiles {
            // What is open is never evicted, so the newcomer itself may be the oldest that waits.
            guard let oldest = queue.oldestWaiting else { return }
            drop(oldest, .queueFull)
            drops.count(.queueFull)
        }
    }

    private func hasRoom(count: Int, bytes: Int, _ bounds: QueueConfig) -> Bool {
        queue.count + reserved.profiles + count <= bounds.maxProfiles && queue.byteCount + reserved.bytes + bytes <= bounds.maxBytes
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
        if let acknowledgement = queue[handle].acknowledgement { settlements.append((acknowledgement, settlement)) }
        queue.remove(handle)
    }

    private mutating func drop(_ handle: ReceiverQueue.Handle, _ reason: DropReason, status: Int = 0) {
        let status = reason == .shutdown ? 503 : status
        settle(handle, .failed(status: status, isRetryable: reason != .rejected))
        account.drop(reason)
    }

    /// Decides what the delivery thread does next.
    mutating func nextStep(_ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        (callSince, sleepsUntil) = (nil, nil)
        queue.wake(now: now)
        dropOld(config.queue, now)
        if !settlements.isEmpty { return .done(.tell(takeSettlements())) }
        if phase == .ended { return open.count == 0 && !isAborting ? .done(.end) : .again(.never) }
        if mayDeliver(config, now), let handle = queue.open() {
            queue[handle].attempts += 1
            callSince = now
            let entry = queue[handle]
            return .done(
                .deliver(
                    entry.profile, token: open.open(.delivery(handle), now: now), attempt: entry.attempts,
                    progress: entry.progress))
        }
        if phase == .draining, queue.count == 0, open.count == 0 {
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
        queue.hasReady && open.deliveryCount < config.maxInFlight && pace.allows(open: open.deliveryCount, now: now)
    }

    /// Whether the delivery thread sleeps and has something to do; waking it for nothing costs more than a delivery.
    func mustWake(_ config: ReceiverConfig, now: MonotonicTime) -> Bool {
        if phase != .running { return true }
        guard let sleepsUntil else { return false }
        return mayDeliver(config, now) || nextEvent(config.queue) < sleepsUntil || queue.isOver(Self.largeBacklog)
    }

    /// When something happens by time alone.
    private func nextEvent(_ bounds: QueueConfig) -> MonotonicTime {
        var next = queue.nextDue
        // While a probe is open its outcome is waited for, not a time that has passed.
        if pace.isFailing, queue.hasReady, open.deliveryCount == 0 { next = min(next, max(pace.nextProbe, MonotonicTime(nanoseconds: 1))) }
        if let maxAge = bounds.maxAge, let oldest = queue.oldestWaiting { next = min(next, queue[oldest].acceptedAt + maxAge) }
        return next
    }

    private mutating func dropOld(_ bounds: QueueConfig, _ now: MonotonicTime) {
        guard let maxAge = bounds.maxAge else { return }
        while let oldest = queue.oldestWaiting, queue[oldest].acceptedAt + maxAge <= now {
            drop(oldest, .maxAge)
            drops.count(.maxAge)
        }
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
            let sequence = queue[handle].profile.sequence
            drop(handle, .rejected, status: outcome.httpStatus)
            lastError = outcome.reason
            // A refusal without an answer of the destination says nothing about its health.
            let isAnswer = outcome.httpStatus != 0 || !pace.isFailing
            events = [.dropped(.rejected, sequence: sequence)] + (isAnswer ? alive() : [])
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
            drop(handle, .shutdown)
            return []
        }
        if config.retry.isExhausted(attempts: entry.attempts) {
            drop(handle, .retriesExhausted, status: outcome.httpStatus)
            return [.dropped(.retriesExhausted, sequence: entry.profile.sequence)] + sawRetry(of: entry, outcome, config.retry, now)
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
        if pace.isFailing {
            queue.putBack(handle)
        } else {
            let wait = max(Self.held(outcome.retryAfter), config.retry.delay(afterAttempt: entry.attempts))
            queue.delay(handle, until: now + wait)
        }
        return events
    }

    /// A wait that a destination asks for, held to a day: whatever it says, it is asked again some time.
    private static func held(_ retryAfter: Duration) -> Duration { min(retryAfter, .seconds(86_400)) }

    private mutating func sawRetry(
        of entry: ReceiverQueue.Entry, _ outcome: DeliveryOutcome, _ policy: RetryPolicy, _ now: MonotonicTime
    ) -> [Event] {
        let began = pace.sawRetry(
            of: entry.profile.sequence, notBefore: now + Self.held(outcome.retryAfter), open: open.deliveryCount, policy: policy,
            now: now)
        if pace.isFailing { failingReason = outcome.reason }
        guard began else { return [] }
        // From here on the probes' clock rules, not that of each profile.
        queue.wake(now: .never)
        return [.failing]
    }

    /// Ends deliveries for good; what waits is dropped.
    ///
    /// - Returns: how many were dropped.
    mutating func stop() -> Int {
        phase = .ended
        var dropped = 0
        while let waiting = queue.oldestWaiting {
            drop(waiting, .shutdown)
            dropped += 1
        }
        return dropped + open.deliveryCount
    }

    /// What the receiver's health is, and why.
    var health: (Health, reason: String) {
        if isOverdue { return (.failed, "a call into the plugin, or a delivery, is longer than delivery_timeout") }
        if pace.isFailing { return (.failed, failingReason) }
        return (stated, statedReason)
    }
}

/// Drops since the last line about them: a full queue drops thousands, and the log says so once in a while.
struct DropReports {
    private var counts: [DropReason: Int] = [:]
    private var lastReport = MonotonicTime(nanoseconds: 0)

    mutating func count(_ reason: DropReason) { counts[reason, default: 0] += 1 }

    /// What to write now, if anything: at most a line each ten seconds.
    mutating func due(_ now: MonotonicTime) -> String? {
        guard !counts.isEmpty, now.nanoseconds - lastReport.nanoseconds > 10_000_000_000 else { return nil }
        defer { (counts, lastReport) = ([:], now) }
        return counts.map { "\($0.value) \($0.key.rawValue)" }.sorted().joined(separator: ", ")
    }
}
