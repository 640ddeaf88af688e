import LinuxSystem
import PluginHost

/// What an instance's thread does next: first decided, which changes nothing, then begun. Every method runs with the receiver's
/// lock held. All are mutating, because the compiler copies the whole state for a call of a method that is not.
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
        /// Make an entry a dead letter without another delivery, because it crashed the plugin.
        case condemn(ReceiverQueue.Handle)
        case restart
        case drain
        case timer
        case returnMemory
        case sleep(until: MonotonicTime)
    }

    /// Takes the next step of an instance's thread, which has returned from its last call or has woken up.
    mutating func takeStep(of number: Int, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        guard let instance = instances[number] else { return .done(.leave) }
        instance.returned()
        var hasMoreOld = false
        if instance.phase == .working {
            queue.wake(now: now)
            hasMoreOld = dropOld(now)
            suspects.endTime(now)
        }
        return begin(hasMoreOld ? .tell : decide(instance, now), by: instance, number, now)
    }

    // MARK: Deciding

    /// Decides the next step of an instance's thread.
    private mutating func decide(_ instance: InstanceState, _ now: MonotonicTime) -> NextStep {
        switch instance.phase {
        case .working: return nextStep(of: instance, now)
        case .retiring where instance.nextTimer <= now, .flushing where instance.nextTimer <= now: return .timer
        case .stopping where instance.openOperations > 0 && instance.nextTimer <= now: return .timer
        case .retiring where instance.wantsDrain: return .drain
        case .retiring where instance.openOperations == 0: return .flush
        case .stopping where instance.openOperations == 0 && instance.abortSince == nil: return .destroy
        case .abandoned: return .leave
        case .retiring, .flushing: return .sleep(until: instance.nextTimer)
        case .stopping: return .sleep(until: instance.openOperations > 0 ? instance.nextTimer : .never)
        case .creating, .made, .destroying, .ended: return .sleep(until: .never)
        }
    }

    /// Decides the next step of the working instance's thread.
    private mutating func nextStep(of instance: InstanceState, _ now: MonotonicTime) -> NextStep {
        if !settlements.isEmpty { return .tell }
        if instance.nextTimer <= now { return .timer }
        if refill(now) != nil { return .read }
        if let handle = nextLetter { return .bury(handle) }
        if let downUntil = instance.downUntil, downUntil <= now { return .restart }
        if isDraining, instance.wantsDrain { return .drain }
        if let (handle, isProbe) = nextDelivery(to: instance, now) {
            return suspects.isCondemned(queue[handle].sequence) ? .condemn(handle) : .deliver(handle, isProbe: isProbe)
        }
        if isDraining, queuedCount == 0, instance.openOperations == 0 { return .flush }
        if memoryReturn <= now { return .returnMemory }
        return .sleep(until: nextEvent(of: instance))
    }

    /// The size in bytes from which a backlog's memory is returned to the system when it has ended.
    private static let largeBacklog = 4 << 20
    /// The least time between two returns: pages that are returned have to be cleared again for the next profiles.
    private static let memoryReturnInterval = Duration.seconds(5)

    /// The time at which the memory of an ended backlog is returned to the system; never when there was none.
    private var memoryReturn: MonotonicTime {
        mutating get {
            guard queue.isOver(Self.largeBacklog) else { return .never }
            return memoryReturnedAt.map { $0 + Self.memoryReturnInterval } ?? MonotonicTime(nanoseconds: 0)
        }
    }

    /// The entry that the working instance gets next, and whether it is a probe of a failing receiver.
    private mutating func nextDelivery(
        to serving: InstanceState, _ now: MonotonicTime
    ) -> (handle: ReceiverQueue.Handle, isProbe: Bool)? {
        guard mayDeliver(to: serving, now), let next = candidate(serving, now) else { return nil }
        let isAllowed = suspects.allows(queue[next.handle].sequence, beside: serving.openDeliveries, since: serving.lastDelivery, now)
        return isAllowed ? next : nil
    }

    private mutating func candidate(_ serving: InstanceState, _ now: MonotonicTime) -> (handle: ReceiverQueue.Handle, isProbe: Bool)? {
        guard serving.pace.isFailing else { return nextReady(serving).map { ($0, false) } }
        // A profile that was never tried tells most about the destination. The newest one is taken, because the destination may
        // refuse all of many that came together.
        if let fresh = queue.newestFresh, serving.pace.allowsProbe(ofFresh: true, now: now) { return (fresh, true) }
        return queue.leastTried.map { ($0, true) }
    }

    /// The next ready entry. After a failure the newest entries take turns with the oldest, because the destination may refuse
    /// those from before the failure.
    private mutating func nextReady(_ serving: InstanceState) -> ReceiverQueue.Handle? {
        queue.nextReady(fromBothEnds: serving.pace.isRecovering)
    }

    /// Whether ``nextDelivery(_:)`` would find an entry; must be cheap, because it is called for each new profile.
    private mutating func mayDeliver(to serving: InstanceState, _ now: MonotonicTime) -> Bool {
        guard serving.phase == .working, !serving.isDown, serving.openDeliveries < config.maxInFlight else { return false }
        if serving.pace.isFailing {
            return queue.freshCount > 0 && serving.pace.allowsProbe(ofFresh: true, now: now)
                || queue.triedCount > 0 && serving.pace.allowsProbe(ofFresh: false, now: now)
        }
        guard let next = nextReady(serving), serving.pace.allows(open: serving.openDeliveries) else { return false }
        return serving.openDeliveries == 0 && burying == 0 || hasMemory(for: next)
    }

    /// Whether an entry's profile may be in memory too, beside those that are open.
    private mutating func hasMemory(for handle: ReceiverQueue.Handle) -> Bool {
        guard let backlog, queue[handle].position != nil, queue[handle].profile == nil else { return true }
        return backlog.resident + queue[handle].byteCount <= Backlog.openBytes
    }

    /// The next dead letter to be written. One may always be, however large it is: a busy receiver always has deliveries open.
    private var nextLetter: ReceiverQueue.Handle? {
        mutating get { queue.firstLetter.flatMap { burying == 0 || hasMemory(for: $0) ? $0 : nil } }
    }

    /// Whether the current instance's thread sleeps and has something to do; a needless wake-up costs more than a delivery.
    mutating func mustWake(now: MonotonicTime) -> Bool {
        guard !isDraining, !isClosed, instances.count == 1 else { return true }
        guard let serving, serving.phase == .working else { return true }
        guard let sleepsUntil = serving.sleepsUntil else { return false }
        return mayDeliver(to: serving, now) || nextLetter != nil || needsRefill || nextEvent(of: serving) < sleepsUntil
    }

    /// The earliest time at which something becomes due.
    private mutating func nextEvent(of serving: InstanceState) -> MonotonicTime {
        var next = queue.nextDue
        // While a probe is open, the thread waits for its outcome and not for a time.
        if serving.pace.isFailing, !serving.pace.isProbing {
            if queue.freshCount > 0 { next = min(next, serving.pace.nextFreshProbe) }
            if queue.triedCount > 0 { next = min(next, serving.pace.nextProbe) }
        }
        next = min(next, suspects.nextEvent(since: serving.lastDelivery), serving.nextTimer, memoryReturn)
        if let downUntil = serving.downUntil { next = min(next, downUntil) }
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

    private mutating func begin(
        _ step: NextStep, by instance: InstanceState, _ number: Int, _ now: MonotonicTime
    ) -> WaitStep<Receiver.Step> {
        switch step {
        case .leave: return .done(.leave)
        case .destroy:
            instance.destroyBegan(now)
            return .done(.destroy)
        case .flush:
            if instance.isDown {
                // There is no process that could hold anything back.
                flushed(number)
                return .again(now)
            }
            instance.flushBegan(now)
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
        case .deliver(let handle, let isProbe): return deliver(handle, by: instance, number, isProbe: isProbe, now)
        case .condemn(let handle): return .done(.condemned(condemn(handle, now)))
        case .restart:
            instance.restartBegan(now)
            return .done(.restart)
        case .drain:
            instance.drainBegan(now)
            return .done(.drain)
        case .timer:
            instance.timerBegan(now)
            return .done(.timer)
        case .returnMemory:
            queue.forgetPeak()
            memoryReturnedAt = now
            return .done(.returnMemory)
        case .sleep(let time):
            instance.sleeps(until: time)
            return .again(time)
        }
    }

    private mutating func open(_ handle: ReceiverQueue.Handle) {
        queue.open(handle)
        if queue[handle].position != nil, queue[handle].profile == nil { backlog?.resident += queue[handle].byteCount }
    }

    private mutating func deliver(
        _ handle: ReceiverQueue.Handle, by instance: InstanceState, _ number: Int, isProbe: Bool, _ now: MonotonicTime
    ) -> WaitStep<Receiver.Step> {
        guard suspects.begin(queue[handle].sequence, beside: instance.openDeliveries, instance.record, now) else {
            instance.sleeps(until: now + SuspectTurn.pause)
            return .again(now + SuspectTurn.pause)
        }
        open(handle)
        queue[handle].attempts += 1
        let (sequence, token) = (queue[handle].sequence, open.open(.delivery(handle), by: number, isProbe: isProbe, now: now))
        instance.deliveryBegan(isProbe: isProbe, now)
        instance.record?.opened(OpenDeliveries.place(of: token), sequence: sequence)
        return .done(.deliver(queue[handle].attempt, handle, token: token))
    }
}
