import ConfigJSON
import LinuxSystem
import Synchronization

/// A plugin instance that gets nothing new: it settles what it has open, is flushed, and is destroyed.
struct FormerInstance {
    var isFlushed = false
    /// While it is told to abort, it must not be destroyed.
    var isAborting = false
    /// It took too long, even after it was told to abort; nothing is asked of it any more.
    var isGivenUp = false
    var hasEnded = false
}

/// How a reload changes a receiver while profiles come and go: the queue stays, and the instance may be another one.
extension Receiver {
    /// Whether a config needs another plugin instance than the present one.
    func needsInstance(for new: ReceiverConfig, _ library: PluginLibrary) -> Bool {
        serving.withLock { $0?.library.path != library.path || $0?.config != new.pluginConfig.text }
    }

    /// Takes another config, and with it another plugin instance where it needs one.
    ///
    /// - Returns: the instance that was replaced; it ends by ``end(_:_:)``.
    func change(to new: ReceiverConfig, _ next: DeliveryThread?) -> DeliveryThread? {
        settings.withLock { $0 = new }
        update { state in
            state.pace.change(limit: new.maxInFlight)
            if let next { state.hand(to: next.number, stated: next.events.stated.withLock { $0 }, new.maxInFlight) }
            state.owner = new.owner
            state.evict(new.queue)
        }
        guard let next else { return nil }
        // Its thread sleeps without a limit.
        state.signal()
        return serving.withLock { serving in
            defer { serving = next }
            return serving
        }
    }

    /// Destroys an instance that has not been put to work and never will be; its thread runs or not.
    func discard(_ next: DeliveryThread) {
        state.withLock { $0.former[next.number] = FormerInstance(isFlushed: true) }
        state.signal()
        next.join()
        state.withLock { $0.former[next.number] = nil }
    }

    /// Waits for the end of an instance that was replaced; past the time for that it is told to abort.
    ///
    /// - Returns: false when it did not even finish then; its memory is kept, and the next one gets what it had.
    func end(_ former: DeliveryThread, _ ending: Ending) -> Bool {
        let number = former.number
        if !ending.wait(1, { self.hasEnded(number, until: $0) }) {
            let isOpen = state.withLock { state in
                state.former[number]?.isAborting = true
                state.former[number]?.isFlushed = true
                return state.open.count(of: number) > 0
            }
            if isOpen { former.instance.abort() }
            state.withLock { $0.former[number]?.isAborting = false }
            state.signal()
            guard hasEnded(number, until: .now + .seconds(1)) else { return giveUp(former) }
        }
        former.join()
        state.withLock { $0.former[number] = nil }
        return true
    }

    private func hasEnded(_ number: Int, until deadline: MonotonicTime) -> Bool {
        state.wait { state in
            state.former[number]?.hasEnded != false ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
    }

    private func giveUp(_ former: DeliveryThread) -> Bool {
        Log.error("plugin did not finish its deliveries after abort", ["receiver": name, "plugin": former.library.path])
        // It may still look at them.
        let profiles = update { $0.giveUp(former.number) }
        state.signal()
        GivenUp.all.withLock { $0.append((former, profiles)) }
        // Its thread goes, unless a call does not return.
        if hasEnded(former.number, until: .now + .milliseconds(100)) { former.join() }
        return false
    }

    /// Notes that an instance's thread has nothing more to do with it; on that thread.
    func noteEnd(of number: Int) {
        state.withLock { $0.former[number]?.hasEnded = true }
        state.signal()
    }
}

/// What must stay in memory because a plugin has not let go of it.
private enum GivenUp {
    static let all = Mutex<[(DeliveryThread, [Profile])]>([])
}

extension Receiver.State {
    /// Decides what the thread of one instance does next.
    mutating func nextStep(of number: Int, _ config: ReceiverConfig, now: MonotonicTime) -> WaitStep<Receiver.Step> {
        if number == open.instance { return nextStep(config, now: now) }
        // One that is not at work yet waits for that.
        guard let instance = former[number] else { return .again(.never) }
        if instance.isGivenUp { return .done(.leave) }
        if instance.isAborting || open.count(of: number) > 0 { return .again(.never) }
        if instance.isFlushed { return .done(.end) }
        former[number]?.isFlushed = true
        return .done(.flush(token: open.open(.flush, by: number, now: now)))
    }

    /// Settles an operation of the present instance, or of one that was replaced.
    ///
    /// What comes of a former one says nothing about where profiles go now, nor about what the present one should know.
    mutating func settleAny(
        _ token: UInt, _ outcome: DeliveryOutcome, _ config: ReceiverConfig, _ now: MonotonicTime
    ) -> (events: [Event], openedAt: MonotonicTime?)? {
        guard let number = open.instance(of: token), number != open.instance else { return settle(token, outcome, config, now) }
        let kept = (pace, phase, failingReason)
        defer { (pace, phase, failingReason) = kept }
        var outcome = outcome
        outcome.progress = 0
        guard let settled = settle(token, outcome, config, now) else { return nil }
        return (settled.events.filter { $0 != .failing && $0 != .recovered }, settled.openedAt)
    }

    /// Hands new deliveries to another instance, as to one about which nothing is known.
    mutating func hand(to next: Int, stated new: (Health, String) = (.ok, ""), _ limit: Int) {
        former[open.instance] = FormerInstance()
        open.hand(to: next)
        (callSince, sleepsUntil, isOverdue) = (nil, nil, false)
        (pace, failingReason, lastError) = (Pace(limit: limit), "", "")
        (stated, statedReason) = new
        queue.resetProgress()
        queue.wake(now: .never)
    }

    /// Drops the oldest that wait until a queue has the bounds of a new config.
    mutating func evict(_ bounds: QueueConfig) {
        guard bounds.onFull == .dropOldest else { return }
        while queuedBytes > bounds.maxBytes || queuedCount > bounds.maxProfiles, let oldest = oldestWaiting(.now) {
            drop(oldest, .queueFull)
            drops.count(.queueFull)
        }
    }

    /// Takes back what an instance has open that does not finish: the next one gets it.
    mutating func giveUp(_ number: Int) -> [Profile] {
        former[number]?.isGivenUp = true
        return open.abandon(number).compactMap { operation in
            guard case .delivery(let handle) = operation else { return nil }
            let profile = queue[handle].profile
            if phase == .ended { leave(handle) } else { queue.putBack(handle) }
            return profile
        }
    }
}
