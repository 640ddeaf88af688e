import Glibc
import LinuxSystem
import PluginHost

/// The handling of profiles that are given up, or left to the next start; every method runs with the receiver's lock held.
extension Receiver.State {
    /// Gives a profile up for good: it becomes a dead letter if these are kept, otherwise it is dropped.
    mutating func giveUp(_ handle: ReceiverQueue.Handle, _ reason: DropReason, _ outcome: DeliveryOutcome) -> [Event] {
        let sequence = queue[handle].sequence
        if isClosed, queue[handle].position != nil {
            leaveInSpool(handle)
            return []
        }
        guard keepsDeadLetters, !isClosed else {
            drop(handle, reason, status: outcome.httpStatus, message: outcome.senderMessage)
            note(sequence, .dropped(reason, why: outcome.reason))
            return [.dropped(reason, sequence: sequence, why: outcome.reason)]
        }
        // The sender is told now; the profile is settled only when the letter is durable.
        if let acknowledgement = queue[handle].acknowledgement {
            let failure = Settlement.failed(
                status: outcome.httpStatus, isRetryable: reason != .rejected, message: outcome.senderMessage)
            settlements.append((acknowledgement, failure))
            queue[handle].acknowledgement = nil
        }
        queue[handle].letter = ReceiverQueue.Letter(outcome: outcome, reason: reason)
        burying += 1
        note(sequence, .deadLetter(reason, why: outcome.reason))
        return [.gaveUp(reason, handle, sequence: sequence, why: outcome.reason)]
    }

    /// Settles a profile whose dead letter is durable; on an error, schedules another attempt to write it.
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
            // Another attempt would fail in the same way.
            return drop(handle, letter.reason, status: letter.outcome.httpStatus)
        }
        letterFailures += 1
        letterError = "\(error)"
        unload(handle)
        queue.delay(handle, until: now + policy.delay(afterAttempt: letterFailures))
    }

    /// Leaves an open profile in the spool for the next start, or drops it when it is only in memory.
    mutating func leaveInSpool(_ handle: ReceiverQueue.Handle) {
        guard queue[handle].position != nil else { return drop(handle, .shutdown) }
        if let acknowledgement = queue[handle].acknowledgement { settlements.append((acknowledgement, .staysQueued)) }
        queue[handle].acknowledgement = nil
        unload(handle)
        queue.putBack(handle)
    }
}
