import LinuxSystem
package import PluginHost
import SpoolStore

/// The decisions of a receiver; every method runs with its lock held.
extension Receiver.State {
    /// Removes an entry from the queue, and notes the result for its sender.
    mutating func settle(_ handle: ReceiverQueue.Handle, _ settlement: Settlement) {
        let entry = queue[handle]
        if let acknowledgement = entry.acknowledgement { settlements.append((acknowledgement, settlement)) }
        if let position = entry.position {
            backlog?.reader.settle(position)
            if entry.profile != nil { backlog?.resident -= entry.byteCount }
        }
        queue.remove(handle)
    }

    mutating func drop(_ handle: ReceiverQueue.Handle, _ reason: DropReason, status: Int = 0, message: String = "") {
        settle(handle, reason == .shutdown ? .unavailable : .failed(status: status, isRetryable: reason != .rejected, message: message))
        account.drop(reason)
    }

    // MARK: The delivery thread

    /// Decides the next step of an instance's thread.
    mutating func nextStep(of number: Int, _ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        guard let phase = instances[number]?.phase else { return .done(.leave) }
        instances.change(number) { $0.returned() }
        switch phase {
        case .working: return nextStep(ofWorking: number, config, now)
        case .retiring where instances[number]?.openOperations == 0: return .done(flush(number, now))
        case .stopping where instances[number]?.openOperations == 0 && instances[number]?.abortSince == nil:
            instances.change(number) { $0.destroyBegan() }
            instances.change(number) { $0.began(.destroy, now) }
            return .done(.destroy)
        case .abandoned: return .done(.leave)
        case .creating, .made, .retiring, .flushing, .stopping, .destroying, .ended: return .again(.never)
        }
    }

    private mutating func flush(_ number: Int, _ now: MonotonicTime) -> Receiver.Step {
        instances.change(number) { $0.flushBegan() }
        instances.change(number) { $0.began(.flush, now) }
        instances.change(number) { $0.opened(.flush) }
        return .flush(token: open.open(.flush, by: number, now: now))
    }

    private mutating func nextStep(
        ofWorking number: Int, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> WaitStep<Receiver.Step> {
        queue.wake(now: now)
        if dropOld(config.queue, now) || !settlements.isEmpty { return .done(.tell(takeSettlements())) }
        if let read = refill(now) { return .done(.read(read)) }
        if let handle = queue.firstLetter, let letter = queue[handle].letter {
            open(handle)
            burying += 1
            return .done(.bury(queue[handle], handle, letter))
        }
        if let (handle, isProbe) = nextDelivery(config, now) { return .done(deliver(handle, by: number, isProbe: isProbe, now)) }
        if isDraining, queuedCount == 0, instances[number]?.openOperations == 0 { return .done(flush(number, now)) }
        if queue.takePeak() >= Self.largeBacklog { return .done(.returnMemory) }
        let next = nextEvent(config.queue)
        instances.change(number) { $0.sleepsUntil = next }
        return .again(next)
    }

    /// The size in bytes from which a backlog's memory is returned to the system when it has ended.
    private static let largeBacklog = 4 << 20

    private mutating func open(_ handle: ReceiverQueue.Handle) {
        queue.open(handle)
        if queue[handle].position != nil, queue[handle].profile == nil { backlog?.resident += queue[handle].byteCount }
    }

    private mutating func deliver(
        _ handle: ReceiverQueue.Handle, by number: Int, isProbe: Bool, _ now: MonotonicTime
    ) -> Receiver.Step {
        open(handle)
        queue[handle].attempts += 1
        instances.change(number) { $0.began(.deliver, now) }
        instances.change(number) { $0.opened(.delivery(handle)) }
        if isProbe { instances.change(number) { $0.pace.probeBegan() } }
        return .deliver(queue[handle], handle, token: open.open(.delivery(handle), by: number, isProbe: isProbe, now: now))
    }

    /// The entry that the current instance gets next, and whether it is a probe of a failing receiver.
    private func nextDelivery(_ config: ReceiverConfig, _ now: MonotonicTime) -> (handle: ReceiverQueue.Handle, isProbe: Bool)? {
        guard mayDeliver(config, now), let pace = serving?.pace else { return nil }
        guard pace.isFailing else { return nextReady(pace).map { ($0, false) } }
        // A profile that was never tried tells most about the destination. The newest one is taken, because the destination may
        // refuse all of many that came together.
        if let fresh = queue.newestFresh, pace.allowsProbe(ofFresh: true, now: now) { return (fresh, true) }
        return queue.leastTried.map { ($0, true) }
    }

    /// The next ready entry. After a failure the newest entries take turns with the oldest, because the destination may refuse
    /// those from before the failure.
    private func nextReady(_ pace: Pace) -> ReceiverQueue.Handle? { queue.nextReady(fromBothEnds: pace.isRecovering) }

    /// Whether ``nextDelivery(_:_:)`` would find an entry; must be cheap, because it is called for each new profile.
    private func mayDeliver(_ config: ReceiverConfig, _ now: MonotonicTime) -> Bool {
        guard let serving, serving.phase == .working, serving.openDeliveries < config.maxInFlight else { return false }
        if serving.pace.isFailing {
            return queue.freshCount > 0 && serving.pace.allowsProbe(ofFresh: true, now: now)
                || queue.triedCount > 0 && serving.pace.allowsProbe(ofFresh: false, now: now)
        }
        guard let next = nextReady(serving.pace), serving.pace.allows(open: serving.openDeliveries) else { return false }
        guard let backlog, queue[next].position != nil, queue[next].profile == nil else { return true }
        return (serving.openDeliveries == 0 && burying == 0) || backlog.resident + queue[next].byteCount <= Backlog.openBytes
    }

    /// Whether the current instance's thread sleeps and has something to do; a needless wake-up costs more than a delivery.
    func mustWake(_ config: ReceiverConfig, now: MonotonicTime) -> Bool {
        guard !isDraining, !isClosed, instances.count == 1, let serving, serving.phase == .working else { return true }
        guard let sleepsUntil = serving.sleepsUntil else { return false }
        return mayDeliver(config, now) || queue.firstLetter != nil || needsRefill || nextEvent(config.queue) < sleepsUntil
            || queue.isOver(Self.largeBacklog)
    }

    /// The earliest time at which something becomes due.
    private func nextEvent(_ bounds: QueueConfig) -> MonotonicTime {
        var next = queue.nextDue
        // While a probe is open, the thread waits for its outcome and not for a time.
        if let pace = serving?.pace, pace.isFailing, !pace.isProbing {
            if queue.freshCount > 0 { next = min(next, pace.nextFreshProbe) }
            if queue.triedCount > 0 { next = min(next, pace.nextProbe) }
        }
        if needsRefill, let failure = backlog?.failure { next = min(next, failure.retryAt) }
        if let maxAge = bounds.maxAge, let oldest = queue.oldestWaiting { next = min(next, queue[oldest].acceptedAt + maxAge) }
        return next
    }

    /// Drops profiles that are too old, up to 1024 at a time because other threads need the lock too.
    ///
    /// - Returns: whether there may be more of them.
    private mutating func dropOld(_ bounds: QueueConfig, _ now: MonotonicTime) -> Bool {
        guard let maxAge = bounds.maxAge else { return false }
        for _ in 0..<1024 {
            // Profiles that are only in the spool are checked when they are read.
            guard let oldest = queue.oldestWaiting, queue[oldest].acceptedAt + maxAge <= now else { return false }
            drop(oldest, .maxAge)
            drops.count(.maxAge)
        }
        return true
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
    package var health: (Health, reason: String) {
        if let failure = serving?.failure { return (.failed, failure) }
        if let failure = backlog?.reader.spool.failure { return (.failed, "the spool cannot store profiles: \(failure)") }
        if let failure = backlog?.failure { return (failure.health, "the spool cannot be read: \(failure.error)") }
        if let late = backlog?.reader.spool.unreadable.first {
            return (.degraded, "\(late.file) of the spool cannot be read: \(late.error)")
        }
        if let letterError { return (.degraded, "dead letters cannot be written: \(letterError)") }
        return serving.map { ($0.stated.health, $0.stated.reason) } ?? (.ok, "")
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
