import ConfigJSON
import LinuxSystem
import PluginHost
import ProfileArchive
import Profiles
package import SpoolStore
import Synchronization
import Telemetry

/// One configured receiver: its queue, its open deliveries, and the thread that calls its plugin.
///
/// Profiles enter by ``offer(_:at:_:_:)`` from any thread, and each delivery ends in ``finish(_:_:)``, the only way that outcomes
/// come back. Nothing here waits for the destination: a slow or dead one affects only this receiver's queue.
package final class Receiver: Sendable {
    struct State {
        var config: ReceiverConfig
        var queue = ReceiverQueue()
        /// The part of the queue that is only in the spool; nil when everything is in memory.
        var backlog: Backlog?
        var account = ReceiverAccount()
        var drops = DropReports()
        var breaches = PluginBreaches()
        var logBudget = LogBudget()
        /// The room promised to requests that have not been offered yet; only for queues with `reject`.
        var reserved = (profiles: 0, bytes: 0)
        /// Results for waiting senders, to be sent after the lock is released.
        var settlements = Settlements()
        /// A hash of plugin and config, which marks the `progress` values in the spool as belonging to them.
        var owner: UInt64 = 0

        /// Every plugin instance that has not ended, by its number.
        var instances = Instances()
        /// The number of the instance that profiles go to.
        var current = 0
        var open = OpenDeliveries()
        /// The number of profiles that the current instance has delivered.
        var passes = 0
        /// True when no more profiles will be offered: the instance ends once the queue is empty.
        var isDraining = false
        /// True when nothing more is delivered: new profiles are refused, or stay in the spool.
        var isClosed = false

        var keepsDeadLetters = false
        /// The number of consecutive failures to write a dead letter, and the last error.
        var letterFailures = 0
        var letterError: String?
        var letterWarnings = LogThrottle(every: .seconds(60))
        /// The number of profiles that are being written as dead letters.
        var burying = 0

        /// Profiles that were open when the plugin crashed.
        var suspects = CrashSuspects()
        /// Why the plugin was not started; nil when it was.
        var startRefusal: String?
        /// How often the plugin's process was started again.
        var restarts = 0
        /// Where the fates of profiles are noted for the page; nil in tests.
        var recent: FanOut.Recent?
        /// When the memory of a large backlog was returned to the system; nil before the first time.
        var memoryReturnedAt: MonotonicTime?

        init(_ config: ReceiverConfig) { self.config = config }

        /// Notes what has become of a profile, for the page. Mutating, because otherwise the compiler copies the whole state for the call.
        mutating func note(_ sequence: UInt64, _ fate: @autoclosure () -> FanOut.Recent.Fate) {
            recent?.note(sequence, config.name, fate())
        }

        /// The instance that profiles go to.
        var serving: InstanceState? { instances[current] }
    }

    package let name: String
    /// The current config; a reload changes it.
    package var config: ReceiverConfig { state.withLock { $0.config } }
    let latency = Histogram()
    /// From the end of each delivered profile's span to its delivery.
    let profileAge = Histogram()
    /// The first lock in the order: ``Spool/state`` may be taken while it is held, never in the reverse order; see
    /// docs/architecture.md.
    let state: Monitor<State>
    /// The plugin instance that profiles go to, with its thread.
    let serving = Mutex<DeliveryThread?>(nil)
    let instanceCount = Atomic<Int>(0)
    /// The instances whose threads wait for descriptors.
    let watching = Mutex<[PluginInstance]>([])
    let spool: Spool?
    let deadLetters: DeadLetters?
    private let gatewayVersion: String
    /// The data directory, in which a plugin may have a folder; nil when there is none.
    private let directory: DataDirectory?
    /// The plugin's warnings while a command tests the config; nil when they go to the log.
    let trial: Monitor<[String]>?

    /// - Parameters:
    ///   - spool: the spool, when the config stores profiles on disk or stored them there before.
    ///   - deadLetters: the store for profiles that are given up.
    ///   - directory: the data directory, in which a plugin may have a folder.
    ///   - recent: where it notes what becomes of its profiles.
    ///   - isTrial: whether a command only tests how the plugin judges its config.
    package init(
        _ config: ReceiverConfig, spool: Spool? = nil, deadLetters: DeadLetters? = nil, directory: DataDirectory? = nil,
        gatewayVersion: String = "", recent: FanOut.Recent? = nil, isTrial: Bool = false
    ) {
        name = config.name
        (self.directory, self.gatewayVersion) = (directory, gatewayVersion)
        trial = isTrial ? Monitor([]) : nil
        self.spool = spool
        self.deadLetters = deadLetters
        var state = State(config)
        state.recent = recent
        self.state = Monitor(state)
    }

    /// What a plugin may know of its instance.
    func facts(_ config: ReceiverConfig) -> InstanceFacts {
        InstanceFacts(
            receiver: name, gatewayVersion: gatewayVersion, maxInFlight: config.maxInFlight, deliveryTimeout: config.deliveryTimeout
        ) { [directory, name] in
            do throws(SystemError) { return try directory?.made("plugin/\(FileName.component(name, ifEmpty: "unnamed"))").path } catch {
                Log.error("the plugin's folder cannot be made", ["receiver": name, "error": "\(error)"])
                return nil
            }
        }
    }

    /// The plugin's warnings so far, while a command tests the config.
    package var trialWarnings: [String] { trial?.withLock { $0 } ?? [] }

    /// The thread of the plugin instance that profiles go to; nil while there is none.
    package var present: DeliveryThread? { serving.withLock { $0 } }

    /// The plugin instance; nil while none has been created.
    var instance: PluginInstance? { serving.withLock { $0 }?.instance }

    // MARK: Offering profiles

    /// Reserves room for profiles of these sizes, which are offered next; returns false when the queue is full.
    func reserve(_ sizes: [Int], _ bounds: QueueConfig) -> Bool { state.withLock { $0.reserve(sizes, bounds) } }

    /// Releases reserved room.
    func cancelReservation(_ sizes: [Int], _ bounds: QueueConfig) { state.withLock { $0.release(sizes, bounds) } }

    /// Adds profiles to the queue, making room by the queue's rule.
    ///
    /// - Parameters:
    ///   - positions: their positions in the spool; nil when they are only in memory.
    ///   - acknowledgement: receives the result of each profile.
    ///   - reserved: the sizes for which room was reserved; nil when none was.
    ///   - bounds: the rules under which room was reserved; a reload may have changed them since.
    ///   - now: when they were accepted.
    func offer(
        _ profiles: [ReceivedProfile], at positions: [SpoolPosition]? = nil, _ acknowledgement: Acknowledgement?, reserved: [Int]? = nil,
        _ bounds: QueueConfig, _ now: MonotonicTime = .now
    ) {
        accept(profiles, reserved, bounds, now) { state, index in
            state.accept(profiles[index], at: positions?[index], acknowledgement, bounds, isPromised: reserved != nil, now)
        }
    }

    /// Counts profiles that the spool could not store as dropped.
    func offerUnstored(
        _ profiles: [ReceivedProfile], _ acknowledgement: Acknowledgement?, reserved: [Int]?, _ bounds: QueueConfig,
        _ now: MonotonicTime = .now
    ) {
        accept(profiles, reserved, bounds, now) { state, index in state.acceptUnstored(profiles[index].sequence, acknowledgement) }
    }

    private func accept(
        _ profiles: [ReceivedProfile], _ reserved: [Int]?, _ bounds: QueueConfig, _ now: MonotonicTime, _ each: (inout State, Int) -> Void
    ) {
        let report = update(now) { state -> String? in
            if let reserved { state.release(reserved, bounds) }
            for index in profiles.indices { each(&state, index) }
            return state.drops.due(now)
        }
        if let report { Log.warning("profiles dropped", ["receiver": name, "count": report]) }
    }

    /// Changes the state, wakes waiting threads if needed, and then sends the results to waiting senders.
    func update<R>(_ now: MonotonicTime = .now, _ body: (inout State) -> R) -> R {
        let (result, settlements, hasWork) = state.withLock { state in
            let result = body(&state)
            return (result, state.takeSettlements(), state.mustWake(now: now))
        }
        if hasWork { wake() }
        tell(settlements)
        return result
    }

    private func tell(_ settlements: Settlements) {
        for (acknowledgement, settlement) in settlements { acknowledgement.settle(settlement, by: name) }
    }

    // MARK: The delivery thread

    enum Step {
        // The rare and large cases are indirect, because each step is copied several times.

        /// Read the next entries from the spool; without the lock, because event loops need it too.
        case read(Backlog.Read)
        case deliver(ReceiverQueue.Attempt, ReceiverQueue.Handle, token: UInt)
        indirect case bury(ReceiverQueue.Entry, ReceiverQueue.Handle, ReceiverQueue.Letter)
        /// Log that a profile is not delivered again, because it crashed the plugin.
        case condemned(State.Event)
        case flush(token: UInt)
        /// Start the plugin, and its process if that has ended.
        case restart
        /// Tell the plugin that few profiles follow.
        case drain
        /// Make the call of a timer of the plugin.
        case timer
        /// Return freed memory to the system, because a large backlog has ended.
        case returnMemory
        /// Send results of profiles that were settled because their time ran out.
        indirect case tell(Settlements)
        case destroy
        /// End the thread without `destroy`, because the instance was abandoned.
        case leave
    }

    /// Makes the calls into one instance until it has ended; runs on the instance's thread.
    func deliverUntilEnd(with instance: PluginInstance, _ thread: DeliveryThread) {
        var waiting = DescriptorWait(instance, thread)
        defer { waiting.end(at: self) }
        while true {
            switch nextStep(&waiting) {
            case .read(var read):
                read.run()
                update { $0.refilled(read, now: .now) }
            case .deliver(let entry, let handle, let token):
                guard let profile = profile(of: entry, handle, token: token) else { continue }
                thread.during(.deliver, sequence: entry.sequence) {
                    instance.deliver(profile, token: token, attempt: entry.attempts, progress: entry.progress)
                }
            case .bury(var entry, let handle, let letter):
                if let profile = profile(of: entry.attempt, handle, token: nil) { bury(profile, entry, handle, letter.outcome) }
            case .condemned(let event): log(event)
            case .flush(let token): thread.during(.flush) { instance.flush(token: token) }
            case .restart: restart(instance, thread)
            case .drain: thread.during(.drain) { instance.drain() }
            case .timer: thread.during(.timer) { instance.fireTimer(now: .now) }
            case .returnMemory: returnFreedMemory()
            case .tell(let settlements): tell(settlements)
            case .destroy: return thread.during(.destroy) { instance.destroy() }
            case .leave: return
            }
        }
    }

    // MARK: Outcomes

    /// Processes the outcome of one operation; the only place where outcomes arrive, from any thread of the plugin.
    func finish(_ token: UInt, _ outcome: DeliveryOutcome) {
        let now = MonotonicTime.now
        let finished = update(now) { $0.finish(token, outcome, now) }
        guard let finished else {
            let isLate = state.withLock { $0.open.wasTakenBack(token) }
            return noteBreach(
                isLate
                    ? PluginBreach(.lateFinish, "an operation was finished after it had been taken back")
                    : PluginBreach(.unknownToken, "an operation was finished twice, or never begun"))
        }
        if let end = finished.deliveredEnd {
            profileAge.observe(nanoseconds: max(0, MonotonicTime.unixNanoseconds.subtractingSaturated(end)))
        }
        if let openedAt = finished.openedAt { latency.observe(nanoseconds: now.nanoseconds - openedAt.nanoseconds) }
        for event in finished.events {
            log(event, outcome.reason)
            guard case .gaveUp(_, let handle, _, _) = event, let entry = finished.givenUp else { continue }
            if let profile = entry.profile, let letter = entry.letter { bury(profile, entry, handle, letter.outcome) }
        }
    }

    private func log(_ event: State.Event, _ error: String = "") {
        switch event {
        case .dropped(let reason, let sequence, let why):
            Log.warning(
                "profile dropped", ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": why])
        case .gaveUp(let reason, _, let sequence, let why):
            Log.warning(
                "profile put with the dead letters",
                ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": why])
        case .failing: Log.warning("receiver is failing; probing it", ["receiver": name, "error": error])
        case .recovered: Log.info("receiver has recovered", ["receiver": name])
        }
    }
}

extension ReceiverConfig {
    /// Whether room must be reserved in advance, so that a request is accepted by all such receivers or by none.
    var promisesRoom: Bool { required && queue.onFull == .reject }

    /// A hash of plugin and config, the same in every run.
    var owner: UInt64 {
        let text = Array("\(plugin)\n\(pluginConfig.text)".utf8)
        return UInt64(CRC32C.of(text)) << 32 | UInt64(CRC32C.of(text, seed: 1))
    }
}
