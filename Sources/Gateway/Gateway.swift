import ConfigJSON
import Glibc
import LinuxSystem
import Synchronization

/// A running gateway: what the config describes, built, and its life from start to drain.
final class Gateway: Sendable {
    static let version = "0.1.0"

    let configPath: String
    let setup = Mutex(Setup())
    let bodies: BodyBudget
    let startedAt = MonotonicTime.unixNanoseconds
    let loops: [EventLoop]
    let reloadStatus = Mutex(ReloadStatus())
    let reloadRequests = ReloadRequests()
    /// What reloads have taken out of service.
    let endings = Endings()
    /// Receivers among it, which still deliver what they have.
    let leaving = Mutex<[Receiver]>([])
    private let adminLoop = Mutex<EventLoop?>(nil)
    private let largePushes: LargePushes
    let spool: Spool?
    let deadLetters: DeadLetters?
    let memories: RequestMemories
    private let ready = Atomic<Bool>(false)

    var isReady: Bool { ready.load(ordering: .relaxed) }
    var receivers: [Receiver] { setup.withLock { $0.receivers } }
    var listeners: [Listener] { setup.withLock { $0.listeners } }

    /// Why the gateway does not start: a sentence an item.
    struct StartError: Error {
        let messages: [String]
    }

    /// Opens what stays open over reloads: the spool, where the config has one.
    ///
    /// - Parameter path: the config file, to which reloads go back.
    init(_ config: Config, path: String) throws(StartError) {
        configPath = path
        Descriptors.process.divide(DescriptorBudget.Demand(config, loops: Self.loopCount))
        bodies = BodyBudget(limit: .max)
        largePushes = LargePushes(bodies: bodies)
        spool = try Self.openSpool(config)
        deadLetters = config.dataDirectory.map { DeadLetters(folder: "\($0)/dead-letter", limits: config.deadLetters) }
        memories = RequestMemories(config)
        do throws(SystemError) {
            loops = try (0..<Self.loopCount).map { _ throws(SystemError) in try EventLoop() }
        } catch { throw StartError(messages: ["\(error)"]) }
    }

    /// Half of the processors, for deliveries need the other half.
    private static var loopCount: Int { min(8, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)) / 2)) }

    private static func openSpool(_ config: Config) throws(StartError) -> Spool? {
        guard let directory = config.dataDirectory else { return nil }
        do throws(SpoolRecovery.Refusal) {
            return try Spool(dataDirectory: directory, config.spool, pendingLimit: config.limits.maxInFlightBytes)
        } catch { throw StartError(messages: [error.description]) }
    }

    /// What the requests of a `receive_http` listener are for.
    func routes(_ limits: Limits, _ intake: ProfileIntake) -> IngestRoutes {
        IngestRoutes(
            ingest: IngestEndpoint(limits: limits, intake: intake),
            push: PushEndpoint(limits: limits, intake: intake, largePushes: largePushes))
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    ///
    /// - Returns: the exit status: 0, or 1 when a plugin did not end.
    func run(_ config: Config, _ signals: borrowing Signals) throws(StartError) -> Int32 {
        try start(config)
        let stopped = waitForStop(signals)
        Log.info("stopping", ["signal": stopped])
        let status = drain(signals)
        Log.info("stopped", ["status": "\(status)"])
        return status
    }

    /// Creates every receiver and opens every listener, then serves.
    private func start(_ config: Config) throws(StartError) {
        let change = SetupChange(self, from: Setup(), to: config)
        guard change.problems.isEmpty else { throw StartError(messages: change.problems.map { $0.line(in: configPath) }) }
        do throws(SystemError) {
            try spool?.start()
            try memories.start()
            for (index, loop) in loops.enumerated() { try loop.start("loop-\(index)", number: index + 1) }
        } catch { throw StartError(messages: ["\(error)"]) }
        commit(change)
        for stranger in spool?.strangers ?? [] {
            Log.warning(
                "the spool holds profiles of a receiver that the config does not have",
                ["receiver": stranger.receiver, "count": "\(stranger.profiles)"])
        }
        ready.store(true, ordering: .relaxed)
        Log.info("ready", ["version": Self.version, "config": configPath, "receivers": "\(receivers.count)"])
    }

    /// Starts the thread that serves the admin listener, where there is none yet.
    func startAdminLoop() throws(SystemError) {
        try adminLoop.withLock { (loop) throws(SystemError) in
            guard loop == nil else { return }
            let new = try EventLoop()
            try new.start("admin", number: 0)
            loop = new
        }
    }

    var allLoops: [EventLoop] { loops + [adminLoop.withLock { $0 }].compactMap(\.self) }

    func postToAdmin(_ work: @escaping EventLoop.Work) { adminLoop.withLock { $0 }?.post(work) }

    /// Waits for the signal to stop, and meanwhile looks whether a plugin overruns its time.
    private func waitForStop(_ signals: borrowing Signals) -> String {
        while true {
            switch signals.wait(until: .now + .milliseconds(500)) {
            case SIGTERM: return "SIGTERM"
            case SIGINT: return "SIGINT"
            case SIGHUP: reload()
            default: break
            }
            look()
        }
    }

    /// What is looked at now and then.
    private func look() {
        for receiver in receivers { receiver.checkOverdue(.now) }
        for listener in setup.withLock({ $0.allListeners }) { listener.service.guards.refreshFiles(listener: listener.name) }
        deadLetters?.tick(now: .now)
        endings.tidy()
    }

    // MARK: End

    private func drain(_ signals: borrowing Signals) -> Int32 {
        ready.store(false, ordering: .relaxed)
        reloadRequests.stop()
        let (start, setup) = (MonotonicTime.now, setup.withLock { $0 })
        let deadline = start + setup.config.shutdownTimeout
        stopListening()
        let busy = LoopCount(loops.count)
        for loop in loops { loop.drain { busy.countDown() } }
        var isHurried = wait(signals, until: start + setup.config.shutdownTimeout / 2) { busy.isZero(until: $0) }
        onEveryLoop { $0.refuseRest(because: "the gateway is shutting down") }
        largePushes.stop()
        spool?.flush(until: deadline)
        for receiver in receivers { receiver.beginDrain() }
        for receiver in receivers where !isHurried {
            isHurried = wait(signals, until: deadline) { receiver.isDrained(until: $0) }
        }
        if !isHurried { _ = wait(signals, until: deadline) { endings.areDone(until: $0) } }
        // All before any is waited for: one plugin may hold what another one waits for.
        for receiver in receivers { receiver.stop() }
        endings.hurry()
        let ended = receivers.map { $0.end() }
        // What reloads have replaced gets the same time to abort, and a little to be seen to have done so.
        let areEndingsDone = endings.areDone(until: .now + .seconds(2))
        // Letters that are durable are settled in the spool, so it ends after them.
        deadLetters?.stop()
        spool?.stop()
        memories.stop()
        // Last, for until now something was settled that a sender waits for.
        for loop in loops { loop.stop() }
        adminLoop.withLock { $0.take() }?.stop()
        for listener in setup.allListeners { listener.service.guards.access?.stop() }
        // The admin listener's routes hold the gateway.
        self.setup.withLock { $0 = Setup() }
        return ended.contains(false) || !areEndingsDone || endings.hasFailed ? 1 : 0
    }

    /// Closes the listening sockets once every loop has taken what the kernel had accepted for us.
    private func stopListening() {
        onEveryLoop { $0.stopAccepting() }
        for listener in listeners { listener.close() }
        Log.info("no longer listening")
    }

    /// Runs work on every loop's thread and waits until all have done it, but not for a loop that is busy for long.
    func onEveryLoop(_ work: @escaping EventLoop.Work) {
        let busy = LoopCount(loops.count)
        for loop in loops {
            loop.post { table in
                work(table)
                busy.countDown()
            }
        }
        _ = busy.isZero(until: .now + .seconds(1))
    }

    /// Waits until `isDone`, `deadline`, or a second signal.
    ///
    /// - Returns: true when that was a signal.
    private func wait(_ signals: borrowing Signals, until deadline: MonotonicTime, _ isDone: (MonotonicTime) -> Bool) -> Bool {
        while !isDone(min(deadline, .now + .milliseconds(50))), MonotonicTime.now < deadline {
            if let signal = signals.wait(until: .now), signal != SIGHUP {
                Log.warning("a second signal: not waiting for what is left", ["signal": "\(signal)"])
                return true
            }
        }
        return false
    }
}

/// How many loops have something left to do.
final class LoopCount: Sendable {
    private let count: Monitor<Int>

    init(_ count: Int) { self.count = Monitor(count) }

    /// - Returns: true to the last one.
    @discardableResult
    func countDown() -> Bool {
        defer { count.signal() }
        return count.withLock { count in
            count -= 1
            return count == 0
        }
    }

    /// Waits for zero, at most until `deadline`.
    func isZero(until deadline: MonotonicTime) -> Bool {
        count.wait { count in count == 0 ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline) }
    }
}
