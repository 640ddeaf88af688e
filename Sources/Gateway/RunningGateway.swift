import ConfigJSON
import HTTPServer
import LinuxSystem
import ProfileAPI
import Receivers
import SpoolStore
import Synchronization
import Telemetry

/// A running gateway: the objects that the config describes, from start to drain.
final class RunningGateway: Sendable {
    static let version = "0.2.0"

    let configPath: String
    let setup = Mutex(RunningSetup())
    let parts: KeptParts
    // The first use of the steady clock: from here on ages count by the monotonic clock.
    let startedAt = SteadyTime.unixNanoseconds
    let loops: [EventLoop]
    let reloadStatus = Mutex(ReloadStatus())
    let reloadRequests = ReloadRequests()
    let reloads = Reloads()
    let page = GatewayPage()
    let profileRequests = ProfileRequests()
    /// Removed receivers that still deliver their profiles.
    let leaving = Mutex<[Receiver]>([])
    private let adminLoop = Mutex<EventLoop?>(nil)
    var spool: Spool? { parts.spool }
    var shutdownTasks: ShutdownTasks { parts.shutdownTasks }
    private let isStopping = Flag()
    private let hasUpkeepEnded = Flag()
    private let upkeep = Mutex<Thread?>(nil)
    private let watchdog = Mutex<Watchdog?>(nil)

    var isReady: Bool { parts.readiness.isReady }
    var receivers: [Receiver] { setup.withLock { $0.receivers } }
    var listeners: [Listener] { setup.withLock { $0.listeners } }

    /// Why the gateway does not start, one sentence per message.
    struct StartError: Error {
        let messages: [String]
    }

    /// Opens the parts that reloads keep, such as the spool if the config has one.
    ///
    /// - Parameter path: the path of the config file, which reloads read again.
    init(_ config: Config, path: String) throws(StartError) {
        configPath = path
        Descriptors.process.divide(DescriptorBudget.Demand(config, loops: config.loops))
        parts = try KeptParts(config)
        do throws(SystemError) {
            loops = try (0..<config.loops).map { _ throws(SystemError) in try EventLoop() }
        } catch { throw StartError(messages: ["\(error)"]) }
    }

    /// The most event loops that serve senders.
    static let mostLoops = 64

    /// Creates every receiver and opens every listener, then serves.
    func start(_ config: Config) throws(StartError) {
        let change = prepareChange(from: RunningSetup(), to: config)
        guard change.problems.isEmpty else {
            _ = shutdownTasks.areDone(until: .now + Self.endingTime)
            throw StartError(messages: change.problems.map { $0.line(in: configPath) })
        }
        do throws(SystemError) {
            try spool?.start()
            try parts.memories.start()
            for (index, loop) in loops.enumerated() { try loop.start("loop-\(index)", number: index + 1) }
        } catch { throw StartError(messages: ["\(error)"]) }
        commit(change)
        for stranger in spool?.strangers ?? [] {
            Log.warning(
                "the spool holds profiles of a receiver that the config does not have",
                ["receiver": stranger.receiver, "count": "\(stranger.profiles)"])
        }
        // Logs at once which plugins have not made their instances yet.
        for receiver in receivers { receiver.checkOverdue(.now) }
        try startUpkeep()
        try startWatchdog()
        parts.readiness.set(true)
        Log.info("ready", ["version": Self.version, "config": configPath, "receivers": "\(receivers.count)"])
        ServiceManager.isReady("Ready, receivers: \(receivers.count)")
    }

    /// Makes everything that a config has and the running setup has not.
    func prepareChange(from old: RunningSetup, to config: Config, problems: [Problem] = []) -> SetupChange {
        var change = SetupChange(parts, from: old, to: config, problems: problems) { AdminEndpoint(gateway: self, visitors: $0) }
        change.prepare()
        guard change.admin != nil else { return change }
        do throws(SystemError) { try startAdminLoop() } catch {
            change.refuse(Problem(position: nil, path: "admin", message: "\(error)"))
        }
        return change
    }

    /// Starts the thread that serves the admin listener, unless it runs already.
    private func startAdminLoop() throws(SystemError) {
        try adminLoop.withLock { (loop) throws(SystemError) in
            guard loop == nil else { return }
            let new = try EventLoop()
            try new.start("admin", number: 0)
            loop = new
        }
    }

    var allLoops: [EventLoop] { loops + [adminLoop.withLock { $0 }].compactMap(\.self) }

    func postToAdmin(_ work: @escaping EventLoop.Work) { adminLoop.withLock { $0 }?.post(work) }

    // MARK: Periodic checks, every 500 ms

    private static let upkeepInterval = Duration.milliseconds(500)

    /// Starts the thread for periodic checks. They read files, which may block, so they must not run on the thread that handles
    /// signals.
    private func startUpkeep() throws(StartError) {
        do throws(SystemError) {
            try upkeep.withLock { (upkeep) throws(SystemError) in
                upkeep = try Thread("upkeep") { [self] in
                    while !isStopping.isSet(until: .now + Self.upkeepInterval) { checkPeriodically() }
                    hasUpkeepEnded.set()
                }
            }
        } catch { throw StartError(messages: ["\(error)"]) }
    }

    /// Joins the thread, or detaches it when it is blocked by a file.
    private func stopUpkeep() {
        guard let thread = upkeep.withLock({ $0.take() }) else { return }
        if hasUpkeepEnded.isSet(until: .now + .milliseconds(100)) { thread.join() } else { thread.detach() }
    }

    private func checkPeriodically() {
        for receiver in receivers { receiver.checkOverdue(.now) }
        for listener in setup.withLock({ $0.allListeners }) { listener.service.security.refreshFiles(listener: listener.name) }
        parts.deadLetters?.tick(now: .now)
        page.tick(self)
        shutdownTasks.tidy()
        ServiceManager.sendAgain()
    }

    private func startWatchdog() throws(StartError) {
        do throws(SystemError) {
            let new = try Watchdog.start { [self] in allLoops }
            watchdog.withLock { $0 = new }
        } catch { throw StartError(messages: ["\(error)"]) }
    }

    // MARK: End

    /// Answers `/-/ready` with 503 and serves everything else for `delay`, so that load balancers choose another gateway before
    /// the sockets close. No reload changes anything from here on.
    ///
    /// - Parameter hurry: called repeatedly; returns true when the gateway should stop waiting.
    /// - Returns: true when `hurry` returned true.
    func serveUnready(for delay: Duration, _ hurry: () -> Bool) -> Bool {
        parts.readiness.set(false)
        guard delay > .zero else { return false }
        let end = MonotonicTime.now + delay
        closeReloads()
        Log.info("not ready any more, but still serving", ["shutdown_delay": delay.inWords])
        let never = Flag()
        return wait(until: end, hurry) { never.isSet(until: $0) }
    }

    /// Stops accepting profiles and delivers the queued ones, within `shutdown_timeout`.
    ///
    /// - Parameter hurry: called repeatedly; returns true when the gateway should stop waiting.
    /// - Returns: the exit status: 0, or 1 when a plugin or a reload did not end.
    func drain(until deadline: MonotonicTime, _ hurry: () -> Bool) -> Int32 {
        parts.readiness.set(false)
        let (start, setup) = (MonotonicTime.now, drainableSetup())
        stopListening()
        let busy = LoopCount(loops.count)
        for loop in loops { loop.drain { busy.countDown() } }
        var isHurried = wait(until: start + setup.config.shutdownTimeout / 2, hurry) { busy.isZero(until: $0) }
        onEveryLoop { $0.refuseRest(because: "the gateway is shutting down") }
        if !isHurried { isHurried = finishAccepted(until: deadline, hurry) }
        parts.largePushes.stop()
        for receiver in receivers {
            shutdownTasks.start(ShutdownTask(receiver.name, until: deadline) { receiver.drain("profiles lost at shutdown", $0) })
        }
        if !isHurried { isHurried = wait(until: deadline, hurry) { shutdownTasks.areDone(until: $0) } }
        if isHurried { shutdownTasks.hurry() }
        let hasReloadEnded = reloads.stop(until: min(deadline, .now + .seconds(1)))
        if !hasReloadEnded {
            Log.error("a reload did not end; it is not waited for")
            AbandonedInstances.addUnfinishedReload()
        }
        let areDone = shutdownTasks.areDone(until: (isHurried ? .now : max(.now, deadline)) + Self.endingTime)
        shutdownTasks.tidy()
        // Dead letters that become durable are settled in the spool, so the spool is stopped after them.
        parts.deadLetters?.stop()
        spool?.stop()
        parts.memories.stop()
        // The loops are stopped last, because senders were still waiting for the settled profiles until now.
        watchdog.withLock { $0.take() }?.stop()
        // All of them end at the same time.
        for loop in loops { loop.beginStop() }
        for loop in loops { loop.stop() }
        profileRequests.stop(until: .now + .milliseconds(200))
        adminLoop.withLock { $0.take() }?.stop()
        setup.admin?.close()
        for listener in setup.allListeners { listener.service.security.access?.stop() }
        stopUpkeep()
        // Breaks a reference cycle: the admin listener's routes hold the gateway.
        self.setup.withLock { $0 = RunningSetup() }
        parts.crashes.end()
        return areDone && hasReloadEnded && !shutdownTasks.hasFailed ? 0 : 1
    }

    /// Has the Push that is being decoded and everything that waits for the disk offered to the receivers.
    ///
    /// - Returns: true when `hurry` returned true.
    private func finishAccepted(until deadline: MonotonicTime, _ hurry: () -> Bool) -> Bool {
        parts.largePushes.beginStop()
        if wait(until: deadline, hurry, { parts.largePushes.areDone(until: $0) }) { return true }
        guard let spool else { return false }
        let flush = spool.requestFlush()
        return wait(until: deadline, hurry) { spool.isFlushed(flush, until: $0) }
    }

    /// The time that plugins get to abort and to be destroyed, beyond the deadline.
    private static let endingTime = Receiver.endingTime + .milliseconds(200)

    /// The running setup, after which no reload changes it.
    private func drainableSetup() -> RunningSetup {
        closeReloads()
        isStopping.set()
        page.live.stop()
        return setup.withLock { $0 }
    }

    private func closeReloads() {
        reloadRequests.stop()
        reloads.close(until: .now + .seconds(1))
    }

    /// Closes the listening sockets once every event loop has accepted the connections that the kernel had queued.
    private func stopListening() {
        onEveryLoop { $0.stopAccepting() }
        for listener in listeners { listener.close() }
        Log.info("no longer listening")
    }

    /// Runs work on every event loop's thread and waits until all have done it, at most a second.
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

    /// Waits until `isDone`, `deadline`, or `hurry`.
    ///
    /// - Returns: true when `hurry` returned true.
    private func wait(until deadline: MonotonicTime, _ hurry: () -> Bool, _ isDone: (MonotonicTime) -> Bool) -> Bool {
        while !isDone(min(deadline, .now + .milliseconds(50))), MonotonicTime.now < deadline {
            if hurry() { return true }
        }
        return false
    }
}

/// A condition that is set once and that threads can wait for.
final class Flag: Sendable {
    private let state = Monitor(false)

    func set() {
        state.withLock { $0 = true }
        state.signal()
    }

    /// Waits until it is set, at most until `deadline`.
    func isSet(until deadline: MonotonicTime) -> Bool {
        state.wait(until: deadline, for: \.self)
    }
}
