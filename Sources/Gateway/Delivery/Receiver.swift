import ConfigJSON
import LinuxSystem
import Synchronization

/// One configured receiver: its queue, its open deliveries, and the thread that hands profiles to its plugin.
///
/// Profiles come in by ``offer(_:_:)`` from any thread and end in ``settle(_:_:)``, the only way back. Nothing here waits
/// for the destination: a slow or dead one shows in this receiver's queue and nowhere else.
final class Receiver: Sendable {
    struct State {
        var queue = ReceiverQueue()
        var open = OpenDeliveries()
        var pace: Pace
        var account = ReceiverAccount()
        var stated = Health.ok
        var statedReason = ""
        var failingReason = ""
        var lastError = ""
        /// When the call into the plugin began that has not returned.
        var callSince: MonotonicTime?
        /// While the delivery thread sleeps: when it wakes by itself.
        var sleepsUntil: MonotonicTime?
        var isOverdue = false
        var phase = Phase.running
        /// While the plugin is told to abort, it must not be destroyed.
        var isAborting = false
        var drops = DropReports()
        /// What of the queue is in the spool; nil when everything is in memory.
        var backlog: Backlog?
        /// A hash of plugin and config: whose `progress` it is.
        var owner: UInt64 = 0
        var keepsDeadLetters = false
        /// How often in a row a dead letter could not be written, and why.
        var letterFailures = 0
        var letterError: String?
        /// How many are being put with the dead letters.
        var burying = 0
        /// What `reject` receivers have promised room for and not received yet.
        var reserved = (profiles: 0, bytes: 0)
        /// What senders who wait are to be told once the lock is released.
        var settlements: [(Acknowledgement, Settlement)] = []
        /// Instances that were replaced and have not ended, by number.
        var former: [Int: FormerInstance] = [:]
    }

    /// The life of the delivery thread: running until told to stop, then the end of the plugin instance.
    enum Phase { case running, draining, flushing, ended }

    let name: String
    /// Its config now; a reload changes it.
    var config: ReceiverConfig { settings.withLock { $0 } }
    let latency = Histogram()
    let state: Monitor<State>
    /// Taken with the state's lock held, never the other way round.
    let settings: Mutex<ReceiverConfig>
    /// The plugin instance that new deliveries go to, with its thread.
    let serving = Mutex<DeliveryThread?>(nil)
    let instanceCount = Atomic<Int>(0)
    let spool: Spool?
    let deadLetters: DeadLetters?

    /// - Parameters:
    ///   - spool: where profiles are kept when the config wants them on disk, or had them there.
    ///   - deadLetters: where they go that are given up.
    init(_ config: ReceiverConfig, spool: Spool? = nil, deadLetters: DeadLetters? = nil) {
        name = config.name
        settings = Mutex(config)
        self.spool = spool
        self.deadLetters = deadLetters
        state = Monitor(State(pace: Pace(limit: config.maxInFlight)))
    }

    /// Loads the plugin and makes the instance.
    ///
    /// - Returns: what is in the way, with its place in the config; nothing when the instance is there.
    func create(from folders: [String]) -> [Problem] {
        do throws(PluginProblems) {
            let made = try DeliveryThread(of: self, config, from: folders)
            serving.withLock { $0 = made }
            state.withLock { $0.open.hand(to: made.number) }
            return []
        } catch { return error.list }
    }

    var instance: PluginInstance? { serving.withLock { $0?.instance } }

    /// Starts the delivery thread.
    func start() throws(SystemError) { try serving.withLock { $0 }?.start() }

    // MARK: In

    /// Promises room for profiles that are offered next; false when the queue is full.
    func reserve(_ profiles: [Profile], _ config: ReceiverConfig) -> Bool { state.withLock { $0.reserve(profiles, config.queue) } }

    /// Takes a promise back.
    func cancelReservation(_ profiles: [Profile], _ config: ReceiverConfig) {
        state.withLock { $0.release(profiles, config.queue) }
    }

    /// Accepts profiles into the queue, making room by the queue's rule.
    ///
    /// - Parameters:
    ///   - positions: where they are in the spool; nil when they are in memory alone.
    ///   - acknowledgement: is told what became of each of them.
    ///   - config: the rules under which room was promised; a reload may have changed them since.
    func offer(
        _ profiles: [Profile], at positions: [SpoolPosition]? = nil, _ acknowledgement: Acknowledgement?, _ config: ReceiverConfig
    ) {
        take(profiles, config) { state, index, now in
            state.accept(profiles[index], at: positions?[index], acknowledgement, config.queue, isPromised: config.promisesRoom, now)
        }
    }

    /// Counts profiles as dropped that the spool could not store.
    func offerUnstored(_ profiles: [Profile], _ acknowledgement: Acknowledgement?, _ config: ReceiverConfig) {
        take(profiles, config) { state, _, _ in state.acceptUnstored(acknowledgement) }
    }

    private func take(_ profiles: [Profile], _ config: ReceiverConfig, _ each: (inout State, Int, MonotonicTime) -> Void) {
        let now = MonotonicTime.now
        let report = update { state -> String? in
            if config.promisesRoom { state.release(profiles, config.queue) }
            for index in profiles.indices { each(&state, index, now) }
            return state.drops.due(now)
        }
        if let report { Log.warning("profiles dropped", ["receiver": name, "count": report]) }
    }

    /// Changes the state, wakes who waits for that, and then tells senders what was settled.
    func update<R>(_ body: (inout State) -> R) -> R {
        let (result, settlements, hasWork) = state.withLock { state in
            let result = body(&state)
            return (result, state.takeSettlements(), settings.withLock { state.mustWake($0, now: .now) })
        }
        if hasWork { state.signal() }
        tell(settlements)
        return result
    }

    private func tell(_ settlements: [(Acknowledgement, Settlement)]) {
        for (acknowledgement, settlement) in settlements { acknowledgement.settle(settlement, by: name) }
    }

    // MARK: Out

    enum Step {
        /// The next entries are in the spool; read without the lock, for event loops want it too.
        case read(Backlog.Read)
        case deliver(ReceiverQueue.Entry, ReceiverQueue.Handle, token: UInt)
        case bury(ReceiverQueue.Entry, ReceiverQueue.Handle, ReceiverQueue.Letter)
        case flush(token: UInt)
        /// A large backlog is over.
        case returnMemory
        /// Time alone has settled something.
        case tell([(Acknowledgement, Settlement)])
        case end
        /// The instance was given up: it is not even destroyed.
        case leave
    }

    /// Makes the calls into one instance until it has ended; on the thread for that.
    func deliverUntilEnd(with instance: PluginInstance, number: Int) {
        while true {
            switch state.wait({ state in settings.withLock { state.nextStep(of: number, $0, now: .now) } }) {
            case .read(var read):
                read.run()
                update { $0.refilled(read, now: .now) }
            case .deliver(let entry, let handle, let token):
                guard let profile = profile(of: entry, handle, token: token) else { continue }
                instance.deliver(profile, token: token, attempt: entry.attempts, progress: entry.progress)
            case .bury(let entry, let handle, let letter):
                if let profile = profile(of: entry, handle, token: nil) { bury(profile, entry, handle, letter.outcome) }
            case .flush(let token): instance.flush(token: token)
            case .returnMemory: returnFreedMemory()
            case .tell(let settlements): tell(settlements)
            case .end:
                state.signal()
                instance.destroy()
                return noteEnd(of: number)
            case .leave: return noteEnd(of: number)
            }
        }
    }

    // MARK: Back

    /// Takes the outcome of one operation: the one place where results come back, from any thread of the plugin.
    func settle(_ token: UInt, _ outcome: DeliveryOutcome) {
        let now = MonotonicTime.now
        let settled = update { state in settings.withLock { state.settleAny(token, outcome, $0, now) } }
        guard let settled else { return pluginMisbehaved("an operation was finished twice, or never begun") }
        if let openedAt = settled.openedAt { latency.observe(nanoseconds: now.nanoseconds - openedAt.nanoseconds) }
        for event in settled.events {
            log(event, outcome)
            guard case .gaveUp(_, let handle, _) = event else { continue }
            let entry = state.withLock { $0.queue[handle] }
            if let profile = entry.profile { bury(profile, entry, handle, outcome) }
        }
    }

    private func log(_ event: State.Event, _ outcome: DeliveryOutcome) {
        switch event {
        case .dropped(let reason, let sequence):
            Log.warning(
                "profile dropped",
                ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": outcome.reason])
        case .gaveUp(let reason, _, let sequence):
            Log.warning(
                "profile put with the dead letters",
                ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": outcome.reason])
        case .failing: Log.warning("receiver is failing; probing it", ["receiver": name, "error": outcome.reason])
        case .recovered: Log.info("receiver has recovered", ["receiver": name])
        }
    }

    // MARK: End

    /// Lets the queue run empty and then flushes; nothing more is offered.
    func beginDrain() {
        state.withLock { $0.phase = .draining }
        state.signal()
    }

    /// Waits until everything is delivered and flushed, at most until `deadline`.
    func isDrained(until deadline: MonotonicTime) -> Bool {
        state.wait { state in
            state.phase == .ended ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
    }

    /// Marks the receiver as failed while a call into the plugin, or a delivery, is longer than `delivery_timeout`.
    func checkOverdue(_ now: MonotonicTime) {
        let changed = state.withLock { state -> Bool? in
            let oldest = min(state.callSince ?? .never, state.open.oldest ?? .never)
            let isOverdue = oldest + config.deliveryTimeout < now
            defer { state.isOverdue = isOverdue }
            return isOverdue == state.isOverdue ? nil : isOverdue
        }
        if changed == true {
            Log.error("plugin is overdue", ["receiver": name, "plugin": config.plugin, "delivery_timeout": "\(config.deliveryTimeout)"])
        }
    }

    /// Ends deliveries for good: what waits is dropped, what is open is given up.
    ///
    /// - Parameter lost: what the log calls it.
    func stop(_ lost: String = "profiles lost at shutdown") {
        let (left, openCount) = update { state in
            state.isAborting = state.open.count > 0
            return (state.stop(), state.open.count)
        }
        if left.dropped > 0 { Log.error(lost, ["receiver": name, "count": "\(left.dropped)"]) }
        if left.kept > 0 { Log.info("profiles stay in the spool", ["receiver": name, "count": "\(left.kept)"]) }
        if openCount > 0 { instance?.abort() }
        update { $0.isAborting = false }
    }

    /// Ends the plugin instance; ``stop()`` has been called.
    ///
    /// - Returns: false when the plugin kept an operation open a second after it was told to abort. Its memory is kept then.
    func end() -> Bool {
        guard instance != nil else { return true }
        let deadline = MonotonicTime.now + .seconds(1)
        let isQuiet = state.wait { state in
            if state.open.count == 0, state.callSince == nil { return .done(true) }
            return MonotonicTime.now >= deadline ? .done(false) : .again(deadline)
        }
        guard isQuiet else {
            Log.error("plugin did not finish its deliveries after abort", ["receiver": name, "plugin": config.plugin])
            return false
        }
        serving.withLock { $0.take() }?.join()
        return true
    }
}

extension ReceiverConfig {
    /// Whether it says beforehand that there is room, so that a request is taken by all or by none.
    var promisesRoom: Bool { required && queue.onFull == .reject }

    /// Tells this plugin with this config from others, over restarts.
    var owner: UInt64 {
        let text = Array("\(plugin)\n\(pluginConfig.text)".utf8)
        return UInt64(CRC32C.of(text)) << 32 | UInt64(CRC32C.of(text, seed: 1))
    }
}

extension Receiver.State {
    /// What came of one outcome, for the log.
    enum Event: Equatable {
        case dropped(DropReason, sequence: UInt64)
        /// It goes to the dead letters.
        case gaveUp(DropReason, ReceiverQueue.Handle, sequence: UInt64)
        case failing
        case recovered
    }
}
