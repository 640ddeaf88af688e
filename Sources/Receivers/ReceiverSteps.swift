import LinuxSystem

/// What an instance's thread does next: first decided, which changes nothing, then begun. Every method runs with the receiver's
/// lock held.
extension Receiver.State {
    /// The decision about the next step of an instance's thread.
    enum NextStep: Equatable {
        case leave
        case destroy
        case flush
        /// Tell senders about profiles that were settled because their time ran out.
        case tell
        /// Read the next entries from the spool.
        case read
        /// Write the dead letter of an entry.
        case bury(ReceiverQueue.Handle)
        case deliver(ReceiverQueue.Handle, isProbe: Bool)
        case returnMemory
        case sleep(until: MonotonicTime)
    }

    /// Takes the next step of an instance's thread, which has returned from its last call or has woken up.
    mutating func takeStep(of number: Int, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        instances.change(number) { $0.returned() }
        var hasMoreOld = false
        if instances[number]?.phase == .working {
            queue.wake(now: now)
            hasMoreOld = dropOld(now)
        }
        return begin(hasMoreOld ? .tell : nextStep(of: number, now: now), by: number, now)
    }

    // MARK: Deciding

    /// Decides the next step of an instance's thread.
    func nextStep(of number: Int, now: MonotonicTime) -> NextStep {
        guard let instance = instances[number] else { return .leave }
        switch instance.phase {
        case .working: return nextStep(of: instance, now)
        case .retiring where instance.openOperations == 0: return .flush
        case .stopping where instance.openOperations == 0 && instance.abortSince == nil: return .destroy
        case .abandoned: return .leave
        case .creating, .made, .retiring, .flushing, .stopping, .destroying, .ended: return .sleep(until: .never)
        }
    }

    /// Decides the next step of the working instance's thread.
    private func nextStep(of instance: InstanceState, _ now: MonotonicTime) -> NextStep {
        if !settlements.isEmpty { return .tell }
        if refill(now) != nil { return .read }
        if let handle = queue.firstLetter { return .bury(handle) }
        if let (handle, isProbe) = nextDelivery(now) { return .deliver(handle, isProbe: isProbe) }
        if isDraining, queuedCount == 0, instance.openOperations == 0 { return .flush }
        if queue.isOver(Self.largeBacklog) { return .returnMemory }
        return .sleep(until: nextEvent)
    }

    /// The size in bytes from which a backlog's memory is returned to the system when it has ended.
    private static let largeBacklog = 4 << 20

    /// The entry that the current instance gets next, and whether it is a probe of a failing receiver.
    private func nextDelivery(_ now: MonotonicTime) -> (handle: ReceiverQueue.Handle, isProbe: Bool)? {
        guard mayDeliver(now), let pace = serving?.pace else { return nil }
        guard pace.isFailing else { return nextReady(pace).map { ($0, false) } }
        // A profile that was never tried tells most about the destination. The newest one is taken, because the destination may
        // refuse all of many that came together.
        if let fresh = queue.newestFresh, pace.allowsProbe(ofFresh: true, now: now) { return (fresh, true) }
        return queue.leastTried.map { ($0, true) }
    }

    /// The next ready entry. After a failure the newest entries take turns with the oldest, because the destination may refuse
    /// those from before the failure.
    private func nextReady(_ pace: DeliveryPacing) -> ReceiverQueue.Handle? { queue.nextReady(fromBothEnds: pace.isRecovering) }

    /// Whether ``nextDelivery(_:)`` would find an entry; must be cheap, because it is called for each new profile.
    private func mayDeliver(_ now: MonotonicTime) -> Bool {
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
    func mustWake(now: MonotonicTime) -> Bool {
        guard !isDraining, !isClosed, instances.count == 1, let serving, serving.phase == .working else { return true }
        guard let sleepsUntil = serving.sleepsUntil else { return false }
        return mayDeliver(now) || queue.firstLetter != nil || needsRefill || nextEvent < sleepsUntil
            || queue.isOver(Self.largeBacklog)
    }

    /// The earliest time at which something becomes due.
    private var nextEvent: MonotonicTime {
        var next = queue.nextDue
        // While a probe is open, the thread waits for its outcome and not for a time.
        if let pace = serving?.pace, pace.isFailing, !pace.isProbing {
            if queue.freshCount > 0 { next = min(next, pace.nextFreshProbe) }
            if queue.triedCount > 0 { next = min(next, pace.nextProbe) }
        }
        if needsRefill, let failure = backlog?.failure { next = min(next, failure.retryAt) }
        if let maxAge = config.queue.maxAge, let oldest = queue.oldestWaiting { next = min(next, queue[oldest].acceptedAt + maxAge) }
        return next
    }

    /// Drops profiles that are too old, up to 1024 at a time because other threads need the lock too.
    ///
    /// - Returns: whether there may be more of them.
    private mutating func dropOld(_ now: MonotonicTime) -> Bool {
        guard let maxAge = config.queue.maxAge else { return false }
        for _ in 0..<1024 {
            // Profiles that are only in the spool are checked when they are read.
            guard let oldest = queue.oldestWaiting, queue[oldest].acceptedAt + maxAge <= now else { return false }
            drop(oldest, .maxAge)
            drops.count(.maxAge)
        }
        return true
    }

    // MARK: Beginning

    private mutating func begin(_ step: NextStep, by number: Int, _ now: MonotonicTime) -> WaitStep<Receiver.Step> {
        switch step {
        case .leave: return .done(.leave)
        case .destroy:
            instances.change(number) { $0.destroyBegan(now) }
            return .done(.destroy)
        case .flush:
            instances.change(number) { $0.flushBegan(now) }
            return .done(.flush(token: open.open(.flush, by: number, now: now)))
        case .tell: return .done(.tell(takeSettlements()))
        case .read:
            guard let read = refill(now) else { return .again(now) }
            return .done(.read(read))
        case .bury(let handle):
            guard let letter = queue[handle].letter else { return .again(now) }
            open(handle)
            burying += 1
            return .done(.bury(queue[handle], handle, letter))
        case .deliver(let handle, let isProbe): return .done(deliver(handle, by: number, isProbe: isProbe, now))
        case .returnMemory:
            queue.forgetPeak()
            return .done(.returnMemory)
        case .sleep(let time):
            instances.change(number) { $0.sleeps(until: time) }
            return .again(time)
        }
    }

    private mutating func open(_ handle: ReceiverQueue.Handle) {
        queue.open(handle)
        if queue[handle].position != nil, queue[handle].profile == nil { backlog?.resident += queue[handle].byteCount }
    }

    private mutating func deliver(_ handle: ReceiverQueue.Handle, by number: Int, isProbe: Bool, _ now: MonotonicTime) -> Receiver.Step {
        open(handle)
        queue[handle].attempts += 1
        instances.change(number) { $0.deliveryBegan(isProbe: isProbe, now) }
        return .deliver(queue[handle], handle, token: open.open(.delivery(handle), by: number, isProbe: isProbe, now: now))
    }
}
