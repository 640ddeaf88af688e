import LinuxSystem
import PluginHost
import Profiles
import SpoolStore

/// The handling of outcomes; every method runs with the receiver's lock held.
extension Receiver.State {
    /// A consequence of an outcome, for the log.
    enum Event: Equatable {
        case dropped(DropReason, sequence: UInt64, why: String)
        /// The profile becomes a dead letter.
        case gaveUp(DropReason, ReceiverQueue.Handle, sequence: UInt64, why: String)
        case failing
        case recovered
    }

    /// The results of an ended operation.
    struct Finished {
        var events: [Event] = []
        /// When the delivery was begun; nil for an operation that is none.
        var openedAt: MonotonicTime?
        /// The end of the delivered profile's span, Unix nanoseconds; nil when none was delivered.
        var deliveredEnd: Int64?
        /// The entry of ``Event/gaveUp(_:_:sequence:why:)``, for its dead letter.
        var givenUp: ReceiverQueue.Entry?
    }

    /// Ends one operation of any instance; returns nil when the token stands for no open operation.
    ///
    /// An outcome of an instance that was replaced says nothing about the current destination, and its progress is useless to the
    /// current instance: it affects only the state of the old instance.
    mutating func finish(_ token: UInt, _ given: DeliveryOutcome, _ now: MonotonicTime) -> Finished? {
        guard let operation = closeOperation(token) else { return nil }
        let number = operation.instance
        guard case .delivery(let handle) = operation.operation else {
            flushed(number)
            return Finished()
        }
        suspects.survived(queue[handle].sequence)
        let events: [Event]
        var finished = Finished(openedAt: operation.openedAt)
        switch given.status {
        case .delivered:
            finished.deliveredEnd = queue.profileEnd(handle)
            if !queue.isLeftOutOfRecent(handle) { note(queue[handle].sequence, .delivered) }
            settle(handle, .delivered)
            account.delivered += 1
            if number == current { passes += 1 }
            events = sawLife(of: number)
        case .rejected:
            instances[number]?.lastError = given.reason
            // A rejection without an answer of the destination says nothing about the destination's health.
            let isAnswer = given.httpStatus != 0 || instances[number]?.pace.isFailing == false
            events = giveUp(handle, .rejected, given) + (isAnswer ? sawLife(of: number) : [])
        case .retry, .aborted:
            var outcome = given
            if number != current { outcome.progress = 0 }
            events = retry(handle, outcome, operation, now)
        }
        for case .gaveUp(_, let handle, _, _) in events { finished.givenUp = queue[handle] }
        finished.events = number == current ? events : events.filter { $0 != .failing && $0 != .recovered }
        return finished
    }

    /// Closes the operation that a token stands for; returns nil when there is none.
    mutating func closeOperation(_ token: UInt) -> OpenDeliveries.Open? {
        guard let operation = open.close(token) else { return nil }
        let instance = instances[operation.instance]
        instance?.closed(operation.operation)
        instance?.record?.closed(OpenDeliveries.place(of: token))
        if operation.isProbe { instance?.pace.probeEnded() }
        return operation
    }

    mutating func flushed(_ number: Int) {
        // The queue is empty; profiles that come later would not be delivered any more.
        if number == current, isDraining { isClosed = true }
        instances[number]?.stop()
    }

    private mutating func sawLife(of number: Int) -> [Event] {
        guard instances[number]?.pace.sawLife() == true else { return [] }
        instances[number]?.failingReason = ""
        // Profiles that were refused although others passed keep their due time; otherwise they would get the first attempts after
        // each failure.
        if number == current { queue.wakeAll { $0.refusals.isSuspect || $0.letter != nil } }
        return [.recovered]
    }

    private mutating func retry(
        _ handle: ReceiverQueue.Handle, _ outcome: DeliveryOutcome, _ operation: OpenDeliveries.Open, _ now: MonotonicTime
    ) -> [Event] {
        account.retries += 1
        instances[operation.instance]?.lastError = outcome.reason
        if isClosed {
            leaveInSpool(handle)
            return []
        }
        let before = queue[handle]
        let isFirstAnswer =
            operation.instance == current && queue[handle].refusals.add(status: outcome.httpStatus, passes: passes, now: now)
        // A destination that cannot be reached, or that refuses a profile which it had not refused before, may be away.
        let isEvidence = outcome.status == .retry && (outcome.httpStatus == 0 || isFirstAnswer)
        if config.retry.isExhausted(attempts: before.attempts) {
            return giveUp(handle, .retriesExhausted, outcome)
                + sawRetry(of: before, outcome, isEvidence: isEvidence, config.retry, operation, now)
        }
        if config.retry.isProven(queue[handle].refusals, now: now) {
            var proven = outcome
            proven.reason = queue[handle].refusals.text(outcome.reason, now: now)
            return giveUp(handle, .rejected, proven)
        }
        note(before.sequence, .retrying(attempts: before.attempts, why: outcome.reason))
        queue[handle].progress = outcome.progress
        let events: [Event]
        if outcome.progress != before.progress {
            // The delivery made progress since the last attempt, so the destination is not dead.
            events = operation.instance == current ? sawLife(of: operation.instance) : []
        } else if outcome.progress != 0, instances[operation.instance]?.pace.isFailing == false {
            // The delivery reached some of several destinations before: one dead destination says nothing about the receiver.
            events = []
        } else {
            events = sawRetry(of: before, outcome, isEvidence: isEvidence, config.retry, operation, now)
        }
        let wait = max(min(outcome.retryAfter, config.retry.longestRetryAfter), config.retry.delay(afterAttempt: before.attempts))
        queue.delay(handle, until: now + wait)
        unload(handle)
        noteAttempt(handle, due: wait, isChanged: outcome.progress != before.progress)
        return events
    }

    private mutating func noteAttempt(_ handle: ReceiverQueue.Handle, due wait: Duration, isChanged: Bool) {
        let entry = queue[handle]
        guard let position = entry.position, isChanged || Self.isNoted(entry.attempts) else { return }
        let due = MonotonicTime.unixNanoseconds.addingSaturated(wait.inNanoseconds)
        backlog?.reader.attempted(position, attempt(of: entry, due: due))
    }

    /// Whether an attempt is noted: the first eight, then each power of two, so that a profile that waits for months does not fill
    /// the disk.
    private static func isNoted(_ attempts: Int) -> Bool { attempts <= 8 || attempts & (attempts - 1) == 0 }

    private mutating func sawRetry(
        of entry: ReceiverQueue.Entry, _ outcome: DeliveryOutcome, isEvidence: Bool, _ policy: RetryPolicy,
        _ operation: OpenDeliveries.Open,
        _ now: MonotonicTime
    ) -> [Event] {
        guard let instance = instances[operation.instance] else { return [] }
        let began = instance.pace.sawRetry(
            of: entry.sequence, isEvidence: isEvidence, isProbe: operation.isProbe, policy: policy, now: now)
        if instance.pace.isFailing { instance.failingReason = outcome.reason }
        return began ? [.failing] : []
    }
}

extension Refusals {
    /// The reason for giving up a profile that the destination refuses while it accepts others.
    fileprivate func text(_ reason: String, now: MonotonicTime) -> String {
        let minutes = (now.nanoseconds - since.nanoseconds) / 60_000_000_000
        return "refused \(count) times in \(minutes) minutes while other profiles were delivered: \(reason)"
    }
}
