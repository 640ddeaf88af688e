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
        /// What of the queue is in the spool; nil when everything is in memory.
        var backlog: Backlog?
        var account = ReceiverAccount()
        var drops = DropReports()
        /// What `reject` receivers have promised room for and not received yet.
        var reserved = (profiles: 0, bytes: 0)
        /// What senders who wait are to be told once the lock is released.
        var settlements: [(Acknowledgement, Settlement)] = []
        /// A hash of plugin and config: whose `progress` it is.
        var owner: UInt64 = 0

        /// Every plugin instance that has not ended, by its number.
        var instances: [Int: InstanceState] = [:]
        /// The number of the instance that profiles go to.
        var current = 0
        var open = OpenDeliveries()
        /// How many profiles the present instance has delivered.
        var passes = 0
        /// Nothing more is offered: the instance ends once the queue is empty.
        var isDraining = false
        /// Nothing more is delivered: what comes is refused, or stays in the spool.
        var isClosed = false

        var keepsDeadLetters = false
        /// How often in a row a dead letter could not be written, and why.
        var letterFailures = 0
        var letterError: String?
        /// How many are being put with the dead letters.
        var burying = 0

        /// The instance that profiles go to.
        var serving: InstanceState? { instances[current] }
    }

    let name: String
    /// Its config now; a reload changes it.
    var config: ReceiverConfig { settings.withLock { $0 } }
    let latency = Histogram()
    let state: Monitor<State>
    /// Taken with the state's lock held, never the other way round.
    let settings: Mutex<ReceiverConfig>
    /// The plugin instance that profiles go to, with its thread.
    let serving = Mutex<DeliveryThread?>(nil)
    let instanceCount = Atomic<Int>(0)
    let spool: Spool?
    let deadLetters: DeadLetters?
    /// What the plugin warns of while a command tries it; nil where that goes to the log.
    let trial: Monitor<[String]>?

    /// - Parameters:
    ///   - spool: where profiles are kept when the config wants them on disk, or had them there.
    ///   - deadLetters: where they go that are given up.
    ///   - isTrial: whether a command only looks what the plugin says of its config.
    init(_ config: ReceiverConfig, spool: Spool? = nil, deadLetters: DeadLetters? = nil, isTrial: Bool = false) {
        name = config.name
        trial = isTrial ? Monitor([]) : nil
        settings = Mutex(config)
        self.spool = spool
        self.deadLetters = deadLetters
        state = Monitor(State())
    }

    /// nil while there is none, or none yet.
    var instance: PluginInstance? { serving.withLock { $0 }?.instance }

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
        case destroy
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
            case .destroy: return instance.destroy()
            case .leave: return
            }
        }
    }

    // MARK: Back

    /// Takes the outcome of one operation: the one place where results come back, from any thread of the plugin.
    func settle(_ token: UInt, _ outcome: DeliveryOutcome) {
        let now = MonotonicTime.now
        let settled = update { state in settings.withLock { state.settle(token, outcome, $0, now) } }
        guard let settled else { return pluginMisbehaved("an operation was finished twice, or never begun") }
        if let openedAt = settled.openedAt { latency.observe(nanoseconds: now.nanoseconds - openedAt.nanoseconds) }
        for event in settled.events {
            log(event, outcome)
            guard case .gaveUp(_, let handle, _, _) = event else { continue }
            let entry = state.withLock { $0.queue[handle] }
            if let profile = entry.profile, let letter = entry.letter { bury(profile, entry, handle, letter.outcome) }
        }
    }

    private func log(_ event: State.Event, _ outcome: DeliveryOutcome) {
        switch event {
        case .dropped(let reason, let sequence, let why):
            Log.warning(
                "profile dropped", ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": why])
        case .gaveUp(let reason, _, let sequence, let why):
            Log.warning(
                "profile put with the dead letters",
                ["receiver": name, "reason": reason.rawValue, "sequence": "\(sequence)", "error": why])
        case .failing: Log.warning("receiver is failing; probing it", ["receiver": name, "error": outcome.reason])
        case .recovered: Log.info("receiver has recovered", ["receiver": name])
        }
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
