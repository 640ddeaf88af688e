import LinuxSystem
import PluginHost
import Synchronization
import Telemetry

/// The profiles that were open when the plugin crashed. Each is delivered alone once more, so that it is known which profile was open
/// if the plugin crashes again. A plain value, protected by the receiver's lock.
///
/// One that crashes the plugin alone too often is condemned: it is not delivered again. Nothing waits for a suspect without a bound,
/// because the destination may be slow without any fault of the profile.
struct CrashSuspects {
    /// The bounds of the care.
    struct Care {
        /// How long a suspect is the only open delivery, and how long it waits for the deliveries that are open before it.
        let aloneTime: Duration
        /// How long profiles are delivered with care that never crashed the plugin alone.
        let time: Duration

        /// After a crash of this receiver's plugin.
        static let blamed = Care(aloneTime: .seconds(2), time: .seconds(60))
        /// After the end of a process whose cause is unknown: mostly somebody has killed it, with as many profiles open as there may be.
        static let unknown = Care(aloneTime: .milliseconds(100), time: .seconds(5))
    }

    /// The number of crashes at which each suspect was alone, by sequence.
    private(set) var counts: [UInt64: Int] = [:]
    /// The suspect that is open alone, until the time, and the notes that say so.
    private var alone: (sequence: UInt64, until: MonotonicTime, record: CallRecord?)?
    private var careEnds: MonotonicTime?
    private let care: Care
    private let turn: SuspectTurn

    init(_ counts: [UInt64: Int] = [:], _ care: Care = .blamed, turn: SuspectTurn = .process) {
        (self.counts, self.care, self.turn) = (counts, care, turn)
    }

    var isEmpty: Bool { counts.isEmpty }

    func isCondemned(_ sequence: UInt64) -> Bool { !counts.isEmpty && counts[sequence, default: 0] >= CrashHistory.mostAlone }

    /// Whether a profile may be delivered now.
    ///
    /// - Parameters:
    ///   - open: the number of open deliveries.
    ///   - last: when the last of them began.
    func allows(_ sequence: UInt64, beside open: Int, since last: MonotonicTime, _ now: MonotonicTime) -> Bool {
        if counts.isEmpty { return true }
        if let alone, now < alone.until { return false }
        return open == 0 || counts[sequence] == nil || isCondemned(sequence) || last + care.aloneTime <= now
    }

    /// When ``allows(_:beside:since:_:)`` may change without another event.
    func nextEvent(since last: MonotonicTime) -> MonotonicTime {
        if counts.isEmpty { return .never }
        return alone?.until ?? (last + care.aloneTime > .now ? last + care.aloneTime : .never)
    }

    /// Begins the time alone of a suspect that is to be delivered beside no other profile; does nothing for other profiles.
    ///
    /// - Returns: false when a suspect of another receiver is alone; it is to be asked again after ``SuspectTurn/pause``.
    mutating func begin(_ sequence: UInt64, beside open: Int, _ record: CallRecord?, _ now: MonotonicTime) -> Bool {
        guard open == 0, !counts.isEmpty, counts[sequence] != nil else { return true }
        careEnds = careEnds ?? now + care.time
        guard turn.take(record, sequence, until: now + care.aloneTime, now) else { return false }
        alone = (sequence, now + care.aloneTime, record)
        return true
    }

    /// Notes that a delivery ended and the plugin did not crash; its earlier crashes stay counted, in case it is delivered again.
    mutating func survived(_ sequence: UInt64) {
        guard !counts.isEmpty else { return }
        if alone?.sequence == sequence { endAlone() }
        if counts[sequence] == 0 { counts[sequence] = nil }
    }

    /// Notes that a delivery was taken back without an outcome.
    mutating func returned(_ sequence: UInt64) { if alone?.sequence == sequence { endAlone() } }

    /// Notes that the plugin's own process has crashed.
    mutating func crashed(open: Set<UInt64>) { counts = CrashHistory.suspects(open, isAlone: open.count == 1, before: counts) }

    /// Notes that a profile has left the queue.
    mutating func forget(_ sequence: UInt64) { if !counts.isEmpty { counts[sequence] = nil } }

    /// Ends the time alone of a suspect, and the time of care, when they are over.
    mutating func endTime(_ now: MonotonicTime) {
        if let time = careEnds, time <= now {
            counts = counts.filter { $0.value > 0 }
            careEnds = .never
        }
        if let time = alone?.until, time <= now { endAlone() }
    }

    private mutating func endAlone() {
        turn.giveBack(alone?.record)
        alone = nil
    }
}

/// Lets one receiver at a time deliver a suspect alone: when the process then ends without a word, it is known whose profile it was.
final class SuspectTurn: Sendable {
    /// How long to wait before the turn is asked for again.
    static let pause = Duration.milliseconds(20)
    /// The turn of all receivers of the process.
    static let process = SuspectTurn()

    private let holder = Mutex<(record: CallRecord, until: MonotonicTime)?>(nil)

    /// Takes the turn unless another receiver has it, and notes the profile.
    ///
    /// - Parameter record: nil when no notes are kept; there is no turn to take then.
    func take(_ record: CallRecord?, _ sequence: UInt64, until: MonotonicTime, _ now: MonotonicTime) -> Bool {
        guard let record else { return true }
        return holder.withLock { holder in
            if let holder, holder.record !== record, now < holder.until { return false }
            // A holder whose time is over may be in a call that does not return.
            holder?.record.alone(nil)
            record.alone(sequence)
            holder = (record, until)
            return true
        }
    }

    func giveBack(_ record: CallRecord?) {
        holder.withLock { holder in
            guard let present = holder, present.record === record else { return }
            present.record.alone(nil)
            holder = nil
        }
    }
}

extension Receiver.State {
    /// Makes an entry a dead letter without another delivery, or drops it.
    mutating func condemn(_ handle: ReceiverQueue.Handle, _ now: MonotonicTime) -> Event {
        let sequence = queue[handle].sequence
        suspects.forget(sequence)
        queue.open(handle)
        let reason = "the plugin crashed \(CrashHistory.mostAlone) times while it had only this profile"
        guard keepsDeadLetters, !isClosed else {
            drop(handle, .crashed)
            drops.count(.crashed)
            return .dropped(.crashed, sequence: sequence, why: reason)
        }
        if let acknowledgement = queue[handle].acknowledgement {
            settlements.append((acknowledgement, .failed(status: 0, isRetryable: false)))
            queue[handle].acknowledgement = nil
        }
        queue[handle].letter = ReceiverQueue.Letter(outcome: DeliveryOutcome(status: .rejected, reason: reason), reason: .crashed)
        queue.delay(handle, until: now)
        return .gaveUp(.crashed, handle, sequence: sequence, why: reason)
    }
}

extension Receiver {
    /// Takes over what is remembered of crashes; called once, before ``attach()``.
    ///
    /// - Parameters:
    ///   - now: Unix seconds.
    ///   - isStart: whether the gateway starts: a plugin that has crashed too often is not started then.
    /// - Returns: whether the plugin may be started.
    package func remember(_ history: CrashHistory, now: Int64, isStart: Bool) -> Bool {
        let isRefused = isStart && history.isLooping(name, now: now)
        state.withLock { state in
            state.suspects = CrashSuspects(history.suspects(of: name), history.hasCrashed(name, now: now) ? .blamed : .unknown)
            guard isRefused else { return }
            state.startRefusal =
                "its plugin crashed \(CrashHistory.mostCrashes) times within ten minutes; a reload or a later restart starts it"
        }
        if isRefused { Log.error("the receiver's plugin is not started, because it crashed too often", ["receiver": name]) }
        return !isRefused
    }
}
