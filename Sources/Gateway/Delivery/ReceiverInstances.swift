import ConfigJSON
import LinuxSystem
import Synchronization

/// How plugin instances of a receiver come and go while profiles do: the queue stays.
extension Receiver {
    // MARK: Begin

    /// Whether a config needs another plugin instance than the present one.
    ///
    /// - Parameter file: that of the config's plugin.
    func needsInstance(for new: ReceiverConfig, of file: PluginFile) -> Bool {
        guard let present = serving.withLock({ $0 }) else { return true }
        return present.library.map { $0.file.key != file.key } ?? (present.plugin != new.pluginName)
            || present.config != new.pluginConfig.text
            || present.isRefused
    }

    /// What an instance says of itself; nil when there is none of that number.
    func stated(by number: Int) -> (health: Health, reason: String)? { state.withLock { $0.instances[number]?.stated } }

    /// Sends profiles to an instance from here on, at once or as soon as it is made.
    func serve(_ next: DeliveryThread) {
        state.withLock { $0.serve(next.number) }
        serving.withLock { $0 = next }
        state.signal()
    }

    /// Takes another config, and with it another plugin instance where it needs one.
    ///
    /// Retries that wait become due, for an operator who reloads has often just repaired the destination.
    ///
    /// - Returns: the instance that was replaced; it ends by ``end(_:_:)``.
    func change(to new: ReceiverConfig, _ next: DeliveryThread?) -> DeliveryThread? {
        settings.withLock { $0 = new }
        let former = serving.withLock { serving in
            defer { if let next { serving = next } }
            return next == nil ? nil : serving
        }
        update { state in
            if let next { state.serve(next.number) }
            state.instances[state.current]?.pace.change(limit: new.maxInFlight)
            state.instances[state.current]?.pace.hurry()
            state.queue.wakeAll()
            state.owner = new.owner
            state.evict(new.queue)
        }
        // Threads of instances may sleep without a limit.
        state.signal()
        return former
    }

    // MARK: End

    /// How long a plugin may take to finish its operations once it was told to abort, as its contract says.
    private static let abortTime = Duration.seconds(1)
    /// How long `destroy` may take after that.
    private static let destroyTime = Duration.milliseconds(500)

    /// Delivers what the queue holds while there is time, and ends the plugin instance.
    ///
    /// Runs on a thread of the ending's; waits at most for the ending's time and what ``end(_:_:)`` takes.
    ///
    /// - Parameter lost: what the log calls profiles that are lost then.
    /// - Returns: false when the plugin did not end; its memory is kept.
    func end(_ lost: String, _ ending: Ending) -> Bool {
        update { $0.isDraining = true }
        state.signal()
        _ = ending.wait { isDrained(until: $0) }
        close(lost)
        // They hold each other.
        guard let present = serving.withLock({ $0.take() }) else { return true }
        return stop(present)
    }

    /// Lets an instance that was replaced, or is not wanted after all, finish what it has open, and ends it.
    ///
    /// - Returns: false when it did not even finish after it was told to abort; its memory is kept, and the next instance gets
    ///   what it had.
    func end(_ former: DeliveryThread, _ ending: Ending) -> Bool {
        state.withLock { $0.instances[former.number]?.retire() }
        state.signal()
        _ = ending.wait { hasEnded(former.number, until: $0) }
        return stop(former)
    }

    /// Waits until the queue is empty and its last flush is finished.
    private func isDrained(until deadline: MonotonicTime) -> Bool {
        state.wait { state in
            let hasNothing = state.serving?.phase == .creating && state.queuedCount == 0
            if state.isClosed || hasNothing || state.serving?.phase == .ended { return .done(true) }
            return MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
    }

    private func close(_ lost: String) {
        let left = update { $0.close() }
        if left.dropped > 0 { Log.error(lost, ["receiver": name, "count": "\(left.dropped)"]) }
        if left.kept > 0 { Log.info("profiles stay in the spool", ["receiver": name, "count": "\(left.kept)"]) }
    }

    /// Tells an instance to abort what it has open, and waits for its end, but not for long.
    private func stop(_ thread: DeliveryThread) -> Bool {
        let number = thread.number
        let mustAbort = state.withLock { state in
            state.instances[number]?.stop()
            guard let instance = state.instances[number], instance.openOperations > 0 else { return false }
            state.instances[number]?.abortBegan(.now)
            return true
        }
        if mustAbort { abort(thread) }
        state.signal()
        let deadline = MonotonicTime.now + Self.abortTime
        guard hasEnded(number, until: deadline) || (isDestroying(number) && hasEnded(number, until: deadline + Self.destroyTime)) else {
            return abandon(thread)
        }
        thread.join()
        state.withLock { if $0.current != number { $0.instances[number] = nil } }
        return true
    }

    /// Calls `abort` on a thread of its own, for it may not return.
    private func abort(_ thread: DeliveryThread) {
        let returned: @Sendable () -> Void = { [self] in
            state.withLock { $0.instances[thread.number]?.abortReturned() }
            state.signal()
        }
        do throws(SystemError) {
            try Thread.detached("abort-\(name)") {
                thread.instance?.abort()
                returned()
            }
        } catch {
            Log.error("plugin cannot be told to abort", ["receiver": name, "plugin": thread.plugin.name, "error": "\(error)"])
            returned()
        }
    }

    /// Looks for calls and deliveries that take longer than `delivery_timeout`: the receiver is failed meanwhile.
    func checkOverdue(_ now: MonotonicTime) {
        let timeout = config.deliveryTimeout
        let found = state.withLock { $0.checkOverdue(timeout, now) }
        for late in found {
            Log.error(
                "plugin is overdue",
                ["receiver": name, "plugin": config.plugin, "call": late.what, "for": now.since(late.since).inWords])
        }
    }

    private func isDestroying(_ number: Int) -> Bool { state.withLock { $0.instances[number]?.phase == .destroying } }

    private func hasEnded(_ number: Int, until deadline: MonotonicTime) -> Bool {
        state.wait { state in
            let phase = state.instances[number]?.phase ?? .ended
            return phase == .ended ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
    }

    /// Waits for an instance no more; what it has open goes back into the queue.
    private func abandon(_ thread: DeliveryThread) -> Bool {
        let now = MonotonicTime.now
        let (profiles, instance) = update { state in
            let instance = state.instances[thread.number]
            return (state.abandon(thread.number), instance)
        }
        state.signal()
        let call = instance?.oldestCall
        Log.error(
            "plugin did not end after abort; it is not waited for",
            [
                "receiver": name, "plugin": thread.plugin.name, "call": call?.name.rawValue ?? "none",
                "for": call.map { now.since($0.since).inWords } ?? "0s", "open_operations": "\(instance?.openOperations ?? 0)",
            ])
        // It may still look at them.
        AbandonedInstances.add(thread, profiles)
        thread.detach()
        return false
    }

    /// Notes that an instance's thread has nothing more to do with it; on that thread.
    func noteEnd(of number: Int) {
        state.withLock { $0.instances[number]?.ended() }
        state.signal()
    }
}

/// Instances that are not waited for: what they may still use stays in memory, and the process does not end by `exit`, which
/// would run destructors beside their threads.
enum AbandonedInstances {
    private static let all = Mutex<[(DeliveryThread, [Profile])]>([])

    static func add(_ thread: DeliveryThread, _ profiles: [Profile]) { all.withLock { $0.append((thread, profiles)) } }

    static var isEmpty: Bool { all.withLock { $0.isEmpty } }
}

extension Receiver.State {
    /// Sends profiles to an instance from here on, as to one about which nothing is known.
    mutating func serve(_ next: Int) {
        if current != next {
            instances[current]?.retire()
            if instances[current]?.phase == .ended { instances[current] = nil }
            queue.resetProgress()
            queue.wakeAll()
        }
        (current, passes) = (next, 0)
        instances[next]?.serve()
    }

    /// Notes what of each instance takes too long.
    ///
    /// - Returns: what did not when this was called last.
    mutating func checkOverdue(_ timeout: Duration, _ now: MonotonicTime) -> [(what: String, since: MonotonicTime)] {
        instances.keys.sorted().compactMap { number in
            let late = instances[number]?.late(open.oldest(of: number), timeout, now: now)
            let wasLate = instances[number]?.overdue != nil
            instances[number]?.overdue = late.map { "\($0.what) takes longer than delivery_timeout" }
            return wasLate ? nil : late
        }
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
    mutating func abandon(_ number: Int) -> [Profile] {
        instances[number]?.abandon()
        // A thread that finds no entry any more leaves.
        if number != current { instances[number] = nil }
        return open.abandon(number).compactMap { operation in
            instances[number]?.closed(operation)
            guard case .delivery(let handle) = operation else { return nil }
            let profile = queue[handle].profile
            if isClosed { leave(handle) } else { queue.putBack(handle) }
            return profile
        }
    }
}

extension Duration {
    /// Seconds with a decimal place, for the log: `1.5s`.
    var inWords: String {
        let tenths = inNanoseconds / 100_000_000
        return "\(tenths / 10).\(tenths % 10)s"
    }
}
