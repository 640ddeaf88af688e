import ConfigJSON
import LinuxSystem
import PluginHost
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
        var settlements: [(Acknowledgement, Settlement)] = []
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
        /// The number of profiles that are being written as dead letters.
        var burying = 0

        init(_ config: ReceiverConfig) { self.config = config }

        /// The instance that profiles go to.
        var serving: InstanceState? { instances[current] }
    }

    package let name: String
    /// The current config; a reload changes it.
    package var config: ReceiverConfig { state.withLock { $0.config } }
    let latency = Histogram()
    /// The first lock in the order: ``Spool/state`` may be taken while it is held, never in the reverse order; see
    /// docs/architecture.md.
    let state: Monitor<State>
    /// The plugin instance that profiles go to, with its thread.
    let serving = Mutex<DeliveryThread?>(nil)
    let instanceCount = Atomic<Int>(0)
    let spool: Spool?
    let deadLetters: DeadLetters?
    /// The plugin's warnings while a command tests the config; nil when they go to the log.
    let trial: Monitor<[String]>?

    /// - Parameters:
    ///   - spool: the spool, when the config stores profiles on disk or stored them there before.
    ///   - deadLetters: the store for profiles that are given up.
    ///   - isTrial: whether a command only tests how the plugin judges its config.
    package init(_ config: ReceiverConfig, spool: Spool? = nil, deadLetters: DeadLetters? = nil, isTrial: Bool = false) {
        name = config.name
        trial = isTrial ? Monitor([]) : nil
        self.spool = spool
        self.deadLetters = deadLetters
        state = Monitor(State(config))
    }

    /// The plugin's warnings so far, while a command tests the config.
    package var trialWarnings: [String] { trial?.withLock { $0 } ?? [] }

    /// The thread of the plugin instance that profiles go to; nil while there is none.
    package var present: DeliveryThread? { serving.withLock { $0 } }

    /// The plugin instance; nil while none has been created.
    var instance: PluginInstance? { serving.withLock { $0 }?.instance }

    // MARK: Offering profiles

    /// Reserves room for profiles of these sizes, which are offered next; returns false when the queue is full.
    func reserve(_ sizes: [Int], _ config: ReceiverConfig) -> Bool { state.withLock { $0.reserve(sizes, config.queue) } }

    /// Releases reserved room.
    func cancelReservation(_ sizes: [Int], _ config: ReceiverConfig) { state.withLock { $0.release(sizes, config.queue) } }

    /// Adds profiles to the queue, making room by the queue's rule.
    ///
    /// - Parameters:
    ///   - positions: their positions in the spool; nil when they are only in memory.
    ///   - acknowledgement: receives the result of each profile.
    ///   - reserved: the sizes for which room was reserved; nil when none was.
    ///   - config: the rules under which room was reserved; a reload may have changed them since.
    func offer(
        _ profiles: [ReceivedProfile], at positions: [SpoolPosition]? = nil, _ acknowledgement: Acknowledgement?, reserved: [Int]? = nil,
        _ config: ReceiverConfig
    ) {
        accept(profiles, reserved, config) { state, index, now in
            state.accept(profiles[index], at: positions?[index], acknowledgement, config.queue, isPromised: reserved != nil, now)
        }
    }

    /// Counts profiles that the spool could not store as dropped.
    func offerUnstored(_ profiles: [ReceivedProfile], _ acknowledgement: Acknowledgement?, reserved: [Int]?, _ config: ReceiverConfig) {
        accept(profiles, reserved, config) { state, _, _ in state.acceptUnstored(acknowledgement) }
    }

    private func accept(
        _ profiles: [ReceivedProfile], _ reserved: [Int]?, _ config: ReceiverConfig, _ each: (inout State, Int, MonotonicTime) -> Void
    ) {
        let now = MonotonicTime.now
        let report = update { state -> String? in
            if let reserved { state.release(reserved, config.queue) }
            for index in profiles.indices { each(&state, index, now) }
            return state.drops.due(now)
        }
        if let report { Log.warning("profiles dropped", ["receiver": name, "count": report]) }
    }

    /// Changes the state, wakes waiting threads if needed, and then sends the results to waiting senders.
    func update<R>(_ body: (inout State) -> R) -> R {
        let (result, settlements, hasWork) = state.withLock { state in
            let result = body(&state)
            return (result, state.takeSettlements(), state.mustWake(now: .now))
        }
        if hasWork { state.signal() }
        tell(settlements)
        return result
    }

    private func tell(_ settlements: [(Acknowledgement, Settlement)]) {
        for (acknowledgement, settlement) in settlements { acknowledgement.settle(settlement, by: name) }
    }

    // MARK: The delivery thread

    enum Step {
        /// Read the next entries from the spool; without the lock, because event loops need it too.
        case read(Backlog.Read)
        case deliver(ReceiverQueue.Entry, ReceiverQueue.Handle, token: UInt)
        case bury(ReceiverQueue.Entry, ReceiverQueue.Handle, ReceiverQueue.Letter)
        case flush(token: UInt)
        /// Return freed memory to the system, because a large backlog has ended.
        case returnMemory
        /// Send results of profiles that were settled because their time ran out.
        case tell([(Acknowledgement, Settlement)])
        case destroy
        /// End the thread without `destroy`, because the instance was abandoned.
        case leave
    }

    /// Makes the calls into one instance until it has ended; runs on the instance's thread.
    func deliverUntilEnd(with instance: PluginInstance, number: Int) {
        while true {
            switch state.wait({ $0.takeStep(of: number, now: .now) }) {
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

    // MARK: Outcomes

    /// Processes the outcome of one operation; the only place where outcomes arrive, from any thread of the plugin.
    func finish(_ token: UInt, _ outcome: DeliveryOutcome) {
        let now = MonotonicTime.now
        let finished = update { $0.finish(token, outcome, now) }
        guard let finished else { return noteBreach(PluginBreach(.unknownToken, "an operation was finished twice, or never begun")) }
        if let openedAt = finished.openedAt { latency.observe(nanoseconds: now.nanoseconds - openedAt.nanoseconds) }
        for event in finished.events {
            log(event, outcome)
            guard case .gaveUp(_, let handle, _, _) = event, let entry = finished.givenUp else { continue }
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
    /// Whether room must be reserved in advance, so that a request is accepted by all such receivers or by none.
    var promisesRoom: Bool { required && queue.onFull == .reject }

    /// A hash of plugin and config, the same in every run.
    var owner: UInt64 {
        let text = Array("\(plugin)\n\(pluginConfig.text)".utf8)
        return UInt64(CRC32C.of(text)) << 32 | UInt64(CRC32C.of(text, seed: 1))
    }
}
