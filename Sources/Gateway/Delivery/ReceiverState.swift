import LinuxSystem

/// The decisions of a receiver, made with its lock held.
extension Receiver.State {
    /// Takes a profile in and evicts the oldest that wait until the queue's bounds hold.
    mutating func accept(_ profile: Profile, _ bounds: QueueConfig, _ now: MonotonicTime) {
        account.accepted += 1
        guard profile.byteCount <= bounds.maxBytes else { return drop(.tooLarge) }
        queue.append(profile, now: now)
        while queue.byteCount > bounds.maxBytes || queue.count > bounds.maxProfiles {
            // What is open is never evicted, so the newcomer itself may be the oldest that waits.
            guard let oldest = queue.oldestWaiting else { return }
            queue.remove(oldest)
            drop(.queueFull)
        }
    }

    private mutating func drop(_ reason: DropReason) {
        account.drop(reason)
        drops.count(reason)
    }

    /// Decides what the delivery thread does next.
    mutating func nextStep(_ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        queue.wake(now: now)
        dropOld(config.queue, now)
        if phase == .ended { return .done(.end) }
        if queue.hasReady, pace.allows(open: open.deliveryCount, now: now), open.deliveryCount < config.maxInFlight,
            let handle = queue.open()
        {
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
        return .again(nextEvent(config.queue))
    }

    /// When something happens by time alone.
    private func nextEvent(_ bounds: QueueConfig) -> MonotonicTime {
        var next = queue.nextDue
        if pace.isFailing, queue.hasReady { next = min(next, max(pace.nextProbe, MonotonicTime(nanoseconds: 1))) }
        if let maxAge = bounds.maxAge, let oldest = queue.oldestWaiting { next = min(next, queue[oldest].acceptedAt + maxAge) }
        return next
    }

    private mutating func dropOld(_ bounds: QueueConfig, _ now: MonotonicTime) {
        guard let maxAge = bounds.maxAge else { return }
        while let oldest = queue.oldestWaiting, queue[oldest].acceptedAt + maxAge <= now {
            queue.remove(oldest)
            drop(.maxAge)
        }
    }

    /// Settles one operation; nil when the token stands for none.
    mutating func settle(
        _ token: UInt, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> (event: Event, openedAt: MonotonicTime?)? {
        guard let (operation, openedAt) = open.close(token) else { return nil }
        guard case .delivery(let handle) = operation else {
            phase = .ended
            return (.nothing, nil)
        }
        let event: Event
        switch outcome.status {
        case .delivered:
            queue.remove(handle)
            account.delivered += 1
            event = alive()
        case .rejected:
            let sequence = queue[handle].profile.sequence
            queue.remove(handle)
            lastError = outcome.reason
            account.drop(.rejected)
            _ = alive()
            event = .dropped(.rejected, sequence: sequence)
        case .retry, .aborted: event = retry(handle, outcome, config, now)
        }
        return (event, openedAt)
    }

    private mutating func alive() -> Event {
        guard pace.sawLife() else { return .nothing }
        queue.wake(now: .never)
        failingReason = ""
        return .recovered
    }

    private mutating func retry(
        _ handle: ReceiverQueue.Handle, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> Event {
        let entry = queue[handle]
        account.retries += 1
        lastError = outcome.reason
        if phase == .ended {
            queue.remove(handle)
            account.drop(.shutdown)
            return .nothing
        }
        if config.retry.isExhausted(attempts: entry.attempts) {
            queue.remove(handle)
            account.drop(.retriesExhausted)
            _ = sawRetry(of: entry, outcome, config.retry, now)
            return .dropped(.retriesExhausted, sequence: entry.profile.sequence)
        }
        queue[handle].progress = outcome.progress
        // Something got further than the last time, so the destination is not dead.
        let event: Event
        if outcome.progress != entry.progress {
            event = alive()
        } else {
            event = sawRetry(of: entry, outcome, config.retry, now)
        }
        if pace.isFailing {
            queue.putBack(handle)
        } else {
            let wait = max(outcome.retryAfter, config.retry.delay(afterAttempt: entry.attempts))
            queue.delay(handle, until: now + wait)
        }
        return event
    }

    private mutating func sawRetry(
        of entry: ReceiverQueue.Entry, _ outcome: DeliveryOutcome, _ policy: RetryPolicy, _ now: MonotonicTime
    ) -> Event {
        let began = pace.sawRetry(
            of: entry.profile.sequence, notBefore: now + outcome.retryAfter, open: open.deliveryCount, policy: policy,
            now: now)
        if pace.isFailing { failingReason = outcome.reason }
        guard began else { return .nothing }
        // From here on the probes' clock rules, not that of each profile.
        queue.wake(now: .never)
        return .failing
    }

    /// Ends deliveries for good; what waits is dropped.
    ///
    /// - Returns: how many were dropped.
    mutating func stop() -> Int {
        phase = .ended
        var dropped = 0
        while let waiting = queue.oldestWaiting {
            queue.remove(waiting)
            account.drop(.shutdown)
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
