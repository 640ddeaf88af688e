import ConfigJSON
package import LinuxSystem
package import PluginHost
import Profiles
import SpoolStore
import Synchronization
import Telemetry

/// The start, replacement and end of a receiver's plugin instances; the queue stays the same throughout.
extension Receiver {
    // MARK: Starting and replacing

    /// Whether a config needs another plugin instance than the current one.
    ///
    /// - Parameter file: the file of the config's plugin.
    package func needsInstance(for new: ReceiverConfig, of file: PluginFile) -> Bool {
        guard let present = serving.withLock({ $0 }) else { return true }
        // A process of its own takes the new content of the file; a library stays loaded until the gateway ends.
        let isOther =
            present.instance.map { $0.file.key != file.key || $0.isIsolated && $0.isOutdated } ?? (present.plugin != new.pluginName)
        return isOther || present.config != new.pluginConfig.text || present.isolation != new.isolation || present.isRefused
    }

    /// The health that an instance states; nil when there is no instance of that number.
    package func stated(by number: Int) -> (health: Health, reason: String)? { state.withLock { $0.instances[number]?.stated } }

    /// Makes an instance the current one, which gets the receiver's profiles as soon as it is created.
    package func serve(_ next: DeliveryThread) {
        state.withLock { $0.serve(next.number) }
        serving.withLock { $0 = next }
        wake()
    }

    /// Changes the config, and the plugin instance if the config needs another one.
    ///
    /// Waiting retries become due, because an operator who reloads has often just repaired the destination.
    ///
    /// - Returns: the instance that was replaced; the caller ends it with ``retire(_:_:)``.
    package func change(to new: ReceiverConfig, _ next: DeliveryThread?) -> DeliveryThread? {
        let former = serving.withLock { serving in
            defer { if let next { serving = next } }
            return next == nil ? nil : serving
        }
        update { state in
            state.config = new
            if let next { state.serve(next.number) }
            state.instances[state.current]?.pace.change(limit: new.maxInFlight)
            state.instances[state.current]?.pace.hurry()
            state.queue.wakeAll()
            state.owner = new.owner
            state.evict(new.queue)
        }
        // The instances' threads may sleep without a limit.
        wake()
        return former
    }

    // MARK: Ending

    /// The time that a plugin may take to finish its operations after `abort`, according to its contract.
    private static let abortTime = Duration.seconds(1)
    /// The time that `destroy` may take after that in this process.
    private static let destroyTime = Duration.milliseconds(500)
    /// The longest time from `abort` until an instance has ended, or is no longer waited for.
    package static let endingTime = abortTime + ProcessIsolation.destroyTime + ProcessIsolation.killTime

    /// Delivers the queue's profiles while there is time, and ends the plugin instance.
    ///
    /// Waits at most until the deadline, and then for abort and destroy.
    ///
    /// - Parameter lost: the log message for profiles that are lost.
    /// - Returns: false when the plugin did not end; its memory is then kept.
    package func drain(_ lost: String, _ deadline: MovableDeadline) -> Bool {
        update { $0.isDraining = true }
        wake()
        _ = deadline.wait { isDrained(until: $0) }
        close(lost)
        // The receiver and its thread hold references to each other.
        guard let present = serving.withLock({ $0.take() }) else { return true }
        return stop(present)
    }

    /// Ends an instance that was replaced or is not wanted after all, after its open operations have finished.
    ///
    /// - Returns: false when it did not finish even after `abort`; its memory is then kept, and the next instance gets its
    ///   profiles.
    package func retire(_ former: DeliveryThread, _ deadline: MovableDeadline) -> Bool {
        state.withLock { $0.instances[former.number]?.retire() }
        wake()
        _ = deadline.wait { hasEnded(former.number, until: $0) }
        return stop(former)
    }

    /// Waits until the queue is empty and its last flush is finished.
    private func isDrained(until deadline: MonotonicTime) -> Bool {
        state.wait(until: deadline) { state in
            let hasNothing = state.serving?.phase == .creating && state.queuedCount == 0
            return state.isClosed || hasNothing || state.serving?.phase == .ended || state.startRefusal != nil
        }
    }

    private func close(_ lost: String) {
        let left = update { $0.close() }
        if left.dropped > 0 { Log.error(lost, ["receiver": name, "count": "\(left.dropped)"]) }
        if left.kept > 0 { Log.info("profiles stay in the spool", ["receiver": name, "count": "\(left.kept)"]) }
    }

    /// Aborts an instance's open operations, and waits a limited time for its end.
    private func stop(_ thread: DeliveryThread) -> Bool {
        let number = thread.number
        let mustAbort = state.withLock { state in
            state.instances[number]?.stop()
            guard let instance = state.instances[number], instance.openOperations > 0 else { return false }
            state.instances[number]?.abortBegan(.now)
            return true
        }
        if mustAbort { abort(thread) }
        wake()
        // A process that does not end in `destroy` is killed by the thread that waits for it there.
        let destroyTime = thread.isolation == nil ? Self.destroyTime : ProcessIsolation.destroyTime + ProcessIsolation.killTime
        let hasEnded =
            hasEnded(number, within: Self.abortTime) || (isDestroying(number) && hasEnded(number, within: destroyTime)) || kill(thread)
        guard hasEnded else { return abandon(thread) }
        thread.join()
        state.withLock { if $0.current != number { $0.instances[number] = nil } }
        return true
    }

    /// Kills the process of an isolated plugin that does not end; in `destroy` that is done anyway.
    ///
    /// - Returns: whether the instance has ended then.
    private func kill(_ thread: DeliveryThread) -> Bool {
        guard !isDestroying(thread.number), thread.instance?.kill("it did not end after abort") == true else { return false }
        noteBreach(PluginBreach(.openAfterAbort, "it did not end after abort"))
        return hasEnded(thread.number, within: ProcessIsolation.killTime)
    }

    /// Calls `abort` on a separate thread, because it may not return.
    private func abort(_ thread: DeliveryThread) {
        let returned: @Sendable () -> Void = { [self] in
            state.withLock { $0.instances[thread.number]?.abortReturned() }
            wake()
        }
        do throws(SystemError) {
            try Thread.detached("abort-\(name)") {
                thread.during(.abort) { thread.instance?.abort() }
                returned()
            }
        } catch {
            Log.error("plugin cannot be told to abort", ["receiver": name, "plugin": thread.plugin.name, "error": "\(error)"])
            returned()
        }
    }

    /// Checks for calls and deliveries that take longer than `delivery_timeout`; the receiver's health is failed meanwhile.
    package func checkOverdue(_ now: MonotonicTime) {
        let timeout = config.deliveryTimeout
        let found = state.withLock { $0.checkOverdue(timeout, now) }
        for late in found {
            state.withLock { _ = $0.breaches.note(PluginBreach(.overdue, "\(late.what) took longer than delivery_timeout"), now) }
            Log.error(
                "plugin is overdue",
                ["receiver": name, "plugin": config.plugin, "call": late.what, "for": now.since(late.since).inWords])
            // It may have ended meanwhile, and what has begun since must not be blamed for it.
            guard let present, present.number == late.number, state.withLock({ $0.isLate(late.number, timeout, .now) }) else { continue }
            _ = present.instance?.kill("its \(late.what) took longer than delivery_timeout")
        }
    }

    private func isDestroying(_ number: Int) -> Bool { state.withLock { $0.instances[number]?.phase == .destroying } }

    private func hasEnded(_ number: Int, until deadline: MonotonicTime) -> Bool {
        state.wait(until: deadline) { $0.hasEnded(number) }
    }

    private func hasEnded(_ number: Int, within time: Duration) -> Bool {
        var patience = Patience(time)
        return state.wait(&patience) { $0.hasEnded(number) ? true : nil } ?? false
    }

    /// Stops waiting for an instance; its open profiles go back into the queue.
    ///
    /// - Returns: whether nothing of the gateway's is left in the plugin's hands: a process that was killed has copies alone, and on a
    ///   very busy machine it may take a while to be gone.
    private func abandon(_ thread: DeliveryThread) -> Bool {
        let now = MonotonicTime.now
        let (profiles, call, openOperations) = update { state in
            let instance = state.instances[thread.number]
            let (call, openOperations) = (instance?.oldestCall, instance?.openOperations ?? 0)
            return (state.abandon(thread.number), call, openOperations)
        }
        wake()
        let isOutside = thread.isolation != nil
        // Of a process this was noted as it was killed.
        if !isOutside { state.withLock { _ = $0.breaches.note(PluginBreach(.openAfterAbort, "it did not end after abort"), now) } }
        Log.error(
            "plugin did not end after abort; it is not waited for",
            [
                "receiver": name, "plugin": thread.plugin.name, "call": call?.name.rawValue ?? "none",
                "for": call.map { now.since($0.since).inWords } ?? "0s", "open_operations": "\(openOperations)",
            ])
        // A plugin in this process may still access the profiles.
        AbandonedInstances.add(thread, isOutside ? [] : profiles)
        thread.detach()
        return isOutside
    }

    /// Notes that an instance's thread makes no more calls; called on that thread.
    func noteEnd(of number: Int) {
        state.withLock { $0.instances[number]?.ended() }
        wake()
    }
}

/// Instances that are not waited for. The memory that they may still use is kept, and the process does not end by `exit`, which
/// would run destructors while their threads run.
package enum AbandonedInstances {
    private static let all = Mutex<[(DeliveryThread, [ReceivedProfile])]>([])
    private static let hasUnfinishedReload = Atomic<Bool>(false)

    static func add(_ thread: DeliveryThread, _ profiles: [ReceivedProfile]) { all.withLock { $0.append((thread, profiles)) } }

    /// Notes that a reload has not ended, for which plugins may still be making instances.
    package static func addUnfinishedReload() { hasUnfinishedReload.store(true, ordering: .relaxed) }

    package static var isEmpty: Bool { all.withLock { $0.isEmpty } && !hasUnfinishedReload.load(ordering: .relaxed) }
}

extension Receiver.State {
    /// Makes an instance the current one, and forgets what was learnt about the destination of an earlier instance.
    mutating func serve(_ next: Int) {
        if current != next {
            instances[current]?.retire()
            if instances[current]?.phase == .ended { instances[current] = nil }
            queue.resetProgress()
            queue.wakeAll()
        }
        (current, passes, startRefusal) = (next, 0, nil)
        instances[next]?.serve()
    }

    /// Notes for each instance whether a call or delivery takes too long.
    ///
    /// - Returns: those of instances that had none at the last check.
    mutating func checkOverdue(_ timeout: Duration, _ now: MonotonicTime) -> [(number: Int, what: String, since: MonotonicTime)] {
        instances.numbers.compactMap { number in
            let late = instances[number]?.late(open.oldest(of: number), timeout, now: now)
            let wasLate = instances[number]?.overdue != nil
            instances[number]?.overdue = late.map { "\($0.what) takes longer than delivery_timeout" }
            return wasLate ? nil : late.map { (number, $0.what, $0.since) }
        }
    }

    /// Whether a call or delivery of an instance takes too long.
    func isLate(_ number: Int, _ timeout: Duration, _ now: MonotonicTime) -> Bool {
        instances[number]?.late(open.oldest(of: number), timeout, now: now) != nil
    }

    /// Drops the oldest waiting profiles until the queue is within the bounds of a new config.
    mutating func evict(_ bounds: QueueConfig) {
        guard bounds.onFull == .dropOldest else { return }
        while queuedBytes > bounds.maxBytes || queuedCount > bounds.maxProfiles, let oldest = oldestWaiting(.now) {
            drop(oldest, .queueFull)
            drops.count(.queueFull)
        }
    }

    /// Takes back the open profiles of an instance that does not finish, for the next instance; returns those in memory.
    mutating func abandon(_ number: Int) -> [ReceivedProfile] {
        instances[number]?.abandon()
        // A thread whose instance is not listed any more ends.
        if number != current { instances[number] = nil }
        return open.abandon(number).compactMap { opened in
            instances[number]?.closed(opened.operation)
            guard case .delivery(let handle) = opened.operation else { return nil }
            let profile = queue[handle].profile
            takeBack(handle)
            return profile
        }
    }
}

extension Duration {
    /// The duration in seconds with one decimal place, for the log: `1.5s`.
    package var inWords: String {
        let tenths = inNanoseconds / 100_000_000
        return "\(tenths / 10).\(tenths % 10)s"
    }
}

extension Receiver.State {
    fileprivate func hasEnded(_ number: Int) -> Bool { (instances[number]?.phase ?? .ended) == .ended }
}
