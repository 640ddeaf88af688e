import ConfigJSON
import Glibc
import LinuxSystem
import Synchronization

/// A running gateway: what the config describes, built, and its life from start to drain.
final class Gateway: Sendable {
    static let version = "0.1.0"

    let config: Config
    let configPath: String
    let receivers: [Receiver]
    let listeners: [Listener]
    let startedAt = MonotonicTime.unixNanoseconds
    private let loops: [EventLoop]
    private let adminLoop: EventLoop?
    private let adminGuards: Listener.Guards?
    private let largePushes: LargePushes
    let spool: Spool?
    let deadLetters: DeadLetters?
    private let ready = Atomic<Bool>(false)

    var isReady: Bool { ready.load(ordering: .relaxed) }

    /// Why the gateway does not start: a sentence an item.
    struct StartError: Error {
        let messages: [String]
    }

    /// Creates every receiver and opens every listener; nothing is served yet.
    init(_ config: Config, path: String) throws(StartError) {
        self.config = config
        configPath = path
        let guards = try Self.readGuards(config, path)
        adminGuards = guards.admin
        spool = try Self.openSpool(config)
        deadLetters = config.dataDirectory.map { DeadLetters(folder: "\($0)/dead-letter", limits: config.deadLetters) }
        receivers = try Self.createReceivers(config, spool, deadLetters)
        let bodies = BodyBudget(limit: config.limits.maxInFlightBytes)
        largePushes = LargePushes(bodies: bodies)
        do throws(SystemError) {
            let byName = Dictionary(uniqueKeysWithValues: receivers.map { ($0.name, $0) })
            var listeners: [Listener] = []
            for (entry, guards) in zip(config.listeners, guards.listeners) {
                let fanOut = FanOut(receivers: entry.forwardTo.compactMap { byName[$0] }, spool: spool)
                let counters = ListenerCounters()
                let intake = ProfileIntake(
                    ack: entry.ack, tenant: entry.tenant, rates: entry.rateLimit.map(RateLimiter.init), keepHeaders: entry.keepHeaders,
                    fanOut: fanOut, counters: counters)
                let routes = IngestRoutes(
                    ingest: IngestEndpoint(limits: config.limits, intake: intake),
                    push: PushEndpoint(limits: config.limits, intake: intake, largePushes: largePushes))
                listeners.append(
                    try Listener(entry.name, entry.http, guards: guards, routes: routes, bodies: bodies, counters: counters))
            }
            self.listeners = listeners
            loops = try (0..<Self.loopCount).map { _ throws(SystemError) in try EventLoop() }
            adminLoop = config.admin == nil ? nil : try EventLoop()
        } catch {
            Self.end(receivers)
            throw StartError(messages: ["\(error)"])
        }
    }

    /// Reads the files of TLS and authentication before anything is opened.
    private static func readGuards(_ config: Config, _ path: String) throws(StartError) -> (
        listeners: [Listener.Guards], admin: Listener.Guards?
    ) {
        do throws(FileProblems) {
            let listeners = try config.listeners.map { entry throws(FileProblems) in try Listener.Guards(entry.http) }
            return (
                listeners,
                try config.admin.map { admin throws(FileProblems) in try Listener.Guards(admin.http, openPath: AdminEndpoint.openPath) }
            )
        } catch { throw StartError(messages: error.list.map { $0.line(in: path) }) }
    }

    /// Ends receivers that never started.
    private static func end(_ receivers: [Receiver]) {
        for receiver in receivers {
            receiver.stop()
            _ = receiver.end()
        }
    }

    /// Half of the processors, for deliveries need the other half.
    private static var loopCount: Int { min(8, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)) / 2)) }

    private static func openSpool(_ config: Config) throws(StartError) -> Spool? {
        guard let directory = config.dataDirectory else { return nil }
        do throws(SpoolRecovery.Refusal) {
            return try Spool(dataDirectory: directory, config.spool, pendingLimit: config.limits.maxInFlightBytes)
        } catch { throw StartError(messages: [error.description]) }
    }

    private static func createReceivers(_ config: Config, _ spool: Spool?, _ deadLetters: DeadLetters?) throws(StartError) -> [Receiver] {
        var messages: [String] = []
        var receivers: [Receiver] = []
        for entry in config.receivers {
            let receiver = Receiver(entry, spool: spool, deadLetters: deadLetters)
            messages += receiver.create(from: config.pluginFolders).map { "receiver \(entry.name): \($0.message)" }
            receivers.append(receiver)
        }
        guard messages.isEmpty else {
            end(receivers)
            throw StartError(messages: messages)
        }
        return receivers
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    ///
    /// - Returns: the exit status: 0, or 1 when a plugin did not end.
    func run(_ signals: borrowing Signals) throws(StartError) -> Int32 {
        do throws(SystemError) {
            try start()
        } catch { throw StartError(messages: ["\(error)"]) }
        let stopped = waitForStop(signals)
        Log.info("stopping", ["signal": stopped])
        let status = drain(signals)
        Log.info("stopped", ["status": "\(status)"])
        return status
    }

    private func start() throws(SystemError) {
        try spool?.start()
        for stranger in spool?.strangers ?? [] {
            Log.warning(
                "the spool holds profiles of a receiver that the config does not have",
                ["receiver": stranger.receiver, "count": "\(stranger.profiles)"])
        }
        for receiver in receivers { try receiver.start() }
        if let admin = config.admin, let adminLoop, let adminGuards {
            let listener = try Listener(
                "admin", admin.http, guards: adminGuards, routes: AdminEndpoint(gateway: self), bodies: BodyBudget(limit: .max),
                counters: ListenerCounters())
            try adminLoop.start("admin", number: 0, listeners: [listener])
            Log.info("admin is listening", ["address": Self.address(listener)])
        }
        for (index, loop) in loops.enumerated() { try loop.start("loop-\(index)", number: index + 1, listeners: listeners) }
        for listener in listeners {
            Log.info("listening", ["listener": listener.name, "address": Self.address(listener)])
        }
        ready.store(true, ordering: .relaxed)
        Log.info("ready", ["version": Self.version, "config": configPath, "receivers": "\(receivers.count)"])
    }

    private static func address(_ listener: Listener) -> String {
        let address = listener.http.address.isEmpty ? "[::]" : listener.http.address
        return "\(address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address):\(listener.port)"
    }

    /// Waits for the signal to stop, and meanwhile looks whether a plugin overruns its time.
    private func waitForStop(_ signals: borrowing Signals) -> String {
        while true {
            switch signals.wait(until: .now + .milliseconds(500)) {
            case SIGTERM: return "SIGTERM"
            case SIGINT: return "SIGINT"
            case SIGHUP: Log.warning("SIGHUP ignored: this build does not reload its config")
            default:
                for receiver in receivers { receiver.checkOverdue(.now) }
                deadLetters?.tick(now: .now)
                for listener in listeners { listener.guards.refreshFiles(listener: listener.name) }
                adminGuards?.refreshFiles(listener: "admin")
            }
        }
    }

    // MARK: End

    private func drain(_ signals: borrowing Signals) -> Int32 {
        ready.store(false, ordering: .relaxed)
        let start = MonotonicTime.now
        let deadline = start + config.shutdownTimeout
        stopListening()
        let busy = LoopCount(loops.count)
        for loop in loops { loop.drain { busy.countDown() } }
        var isHurried = wait(signals, until: start + config.shutdownTimeout / 2) { busy.isZero(until: $0) }
        onEveryLoop { $0.refuseRest() }
        largePushes.stop()
        spool?.flush()
        for receiver in receivers { receiver.beginDrain() }
        for receiver in receivers where !isHurried {
            isHurried = wait(signals, until: deadline) { receiver.isDrained(until: $0) }
        }
        // All before any is waited for: one plugin may hold what another one waits for.
        for receiver in receivers { receiver.stop() }
        let ended = receivers.map { $0.end() }
        // Letters that are durable are settled in the spool, so it ends after them.
        deadLetters?.stop()
        spool?.stop()
        // Last, for until now something was settled that a sender waits for.
        for loop in loops { loop.stop() }
        adminLoop?.stop()
        for guards in listeners.map(\.guards) + [adminGuards] { guards?.access?.stop() }
        return ended.contains(false) ? 1 : 0
    }

    /// Closes the listening sockets once every loop has taken what the kernel had accepted for us.
    private func stopListening() {
        onEveryLoop { $0.stopAccepting() }
        for listener in listeners { listener.close() }
        Log.info("no longer listening")
    }

    /// Runs work on every loop's thread and waits until all have done it, but not for a loop that is busy for long.
    private func onEveryLoop(_ work: @escaping EventLoop.Work) {
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
private final class LoopCount: Sendable {
    private let count: Monitor<Int>

    init(_ count: Int) { self.count = Monitor(count) }

    func countDown() {
        count.withLock { $0 -= 1 }
        count.signal()
    }

    /// Waits for zero, at most until `deadline`.
    func isZero(until deadline: MonotonicTime) -> Bool {
        count.wait { count in count == 0 ? .done(true) : MonotonicTime.now >= deadline ? .done(false) : .again(deadline) }
    }
}
