import Glibc
import LinuxSystem
import Profiles
import Synchronization
import Telemetry

/// A plugin instance in a process of its own, which can be started again after it has ended. Thread-safe, but for the calls that come
/// from the receiver's delivery thread alone.
///
/// The process is this program's own binary with the command ``PluginChild/command``. Profiles are passed in shared memory, everything
/// else over a socket. A thread receives what the plugin says, until the process has ended.
final class PluginProcess: Sendable {
    /// One process, from its start to its end.
    private final class Run: Sendable {
        struct State {
            /// The answer to `create`; nil while there is none.
            var answer: Result<PluginIdentity, PluginInstance.StartError>?
            /// The last answer to `start`; nil while there is none.
            var started: String?
            var hasEnded = false
            /// Whether its end was asked for, so that it is nothing to tell of.
            var isLeaving = false
            /// Why the gateway has killed it; nil when it did not.
            var killed: String?
        }

        let process: SpawnedProcess
        let channel: PluginChannel
        let profiles: ProfileMemory
        let notes: SharedMapping
        let began = MonotonicTime.now
        let state = Monitor(State())
        /// The gateway's ids of the metrics that the plugin has declared, by its own.
        let metrics = Mutex<[UInt32: UInt32]>([:])

        init(_ start: PluginStart) throws(SystemError) {
            let ends = try Socket.pair()
            channel = PluginChannel(FileDescriptor(owning: ends.0), longest: PluginMessage.longestToGateway)
            let other = FileDescriptor(owning: ends.1)
            profiles = try ProfileMemory()
            let notesFile = try SharedMapping.anonymousFile("notes", count: CrashGuard.size)
            notes = try SharedMapping(notesFile, count: CrashGuard.size)
            process = try SpawnedProcess.start(
                [PluginChild.command, "\(getpid())"], [other.number, profiles.file.number, notesFile.number])
        }

        func kill(_ why: String?) {
            state.withLock { $0.killed = $0.killed ?? why }
            process.kill()
        }
    }

    private let host: HostServices
    private let beginning: PluginStart
    private let isolation: ProcessIsolation
    /// How long `create` and `start` may take.
    private let createTime: Duration
    private let current = Mutex<Run?>(nil)

    /// Prepares the process, without starting it.
    init(_ start: PluginStart, _ isolation: ProcessIsolation, createTime: Duration, host: HostServices) {
        (beginning, self.isolation, self.createTime, self.host) = (start, isolation, createTime, host)
    }

    // MARK: Starting

    /// Loads a plugin in a process of its own, without an instance, to learn what it is.
    static func identify(_ file: PluginFile) throws(PluginInstance.StartError) -> PluginIdentity {
        final class NoEvents: PluginEvents {
            func finish(_ token: UInt, _ outcome: DeliveryOutcome) {}
            func pluginStated(_ health: Health, _ reason: String) {}
            func pluginLogged(_ level: Log.Level, _ message: String) {}
            func timerSet() {}
            func pluginMisbehaved(_ breach: PluginBreach) {}
            func pluginEnded(_ end: PluginEnd) {}
        }
        let host = HostServices(events: NoEvents(), metrics: PluginMetrics(), descriptors: PluginDescriptors(limit: .max))
        let start = PluginStart(
            receiver: "", path: file.path, sha256: file.sha256 ?? "", config: "", references: [], files: ProcessIsolation().files,
            user: nil, hasLowPriority: false, gatewayVersion: "", directory: "", maxInFlight: 0, deliveryTimeout: .zero)
        let process = PluginProcess(start, ProcessIsolation(), createTime: .seconds(10), host: host)
        defer { process.destroy() }
        return try process.create()
    }

    /// Starts the process and creates the instance.
    func create() throws(PluginInstance.StartError) -> PluginIdentity {
        let run: Run
        do throws(SystemError) {
            run = try Run(beginning)
            current.withLock { $0 = run }
            do throws(SystemError) { try Thread.detached("from-\(beginning.receiver)") { [self] in watch(run) } } catch {
                // The thread would have waited for the process to end.
                current.withLock { $0 = nil }
                run.kill(nil)
                _ = run.process.end(within: .seconds(1))
                throw error
            }
        } catch { throw .ended(PluginEnd(how: "it cannot be started: \(error)")) }
        // A failure shows as the end of the process.
        try? run.channel.send(.create(beginning))
        var patience = Patience(createTime)
        if let answer = run.state.wait(&patience, { $0.answer }) { return try answer.get() }
        let why = "create did not return within \(createTime.inNanoseconds / 1_000_000_000) seconds"
        let answer = run.state.withLock { state in
            if state.answer == nil { state.killed = state.killed ?? why }
            return state.answer
        }
        if let answer { return try answer.get() }
        run.kill(why)
        let end = waitForEnd(run)
        // The system may not have ended the process yet, and the next start must not find it.
        current.withLock { if $0 === run { $0 = nil } }
        throw .ended(end)
    }

    /// Waits for the end of a process that was killed; the system may need a moment.
    private func waitForEnd(_ run: Run) -> PluginEnd {
        var patience = Patience(ProcessIsolation.killTime)
        if case .failure(.ended(let end))? = run.state.wait(&patience, { $0.answer }) { return end }
        return PluginEnd(how: "it was ended, but is still there")
    }

    /// Whether there is a process; a call into another one does nothing.
    var isRunning: Bool { current.withLock { $0 != nil } }

    /// Has the plugin begin its work.
    func start() -> PluginInstance.Start {
        guard let run = current.withLock({ $0 }) else { return .ended }
        run.state.withLock { $0.started = nil }
        try? run.channel.send(.start)
        var patience = Patience(createTime)
        let answer = run.state.wait(&patience) { state in state.started.map(Optional.some) ?? (state.hasEnded ? .some(nil) : nil) }
        guard case let answer?? = answer else {
            run.kill("start did not return within \(createTime.inNanoseconds / 1_000_000_000) seconds")
            return .ended
        }
        return answer.isEmpty ? .started : .failed(answer)
    }

    func drain() { tell(.drain) }
    func probe(token: UInt) { tell(.probe(token: UInt64(token))) }

    // MARK: Calls

    /// Hands over one profile. Nothing happens when the process has ended: the end takes all open deliveries back.
    func deliver(_ profile: ReceivedProfile, token: UInt, attempt: Int, progress: UInt64) {
        guard let run = current.withLock({ $0 }) else { return }
        do throws(SystemError) {
            let place = try run.profiles.write(profile)
            try? run.channel.send(
                .deliver(
                    token: UInt64(token), attempt: UInt32(clamping: attempt), progress: progress, sequence: profile.sequence, place: place))
        } catch {
            if error.code == ENOSPC { run.kill("it holds \(run.profiles.byteCount) bytes of profiles that are delivered") }
            host.events.finish(token, DeliveryOutcome(status: .retry, reason: "\(error)"))
        }
    }

    func flush(token: UInt) { tell(.flush(token: UInt64(token))) }
    func abort() { tell(.abort) }

    private func tell(_ message: PluginMessage) { try? current.withLock { $0 }?.channel.send(message) }

    /// Destroys the instance and ends the process; kills it when that takes too long.
    func destroy() {
        guard let run = current.withLock({ $0.take() }) else { return }
        run.state.withLock { $0.isLeaving = true }
        try? run.channel.send(.destroy)
        if !hasEnded(run, within: ProcessIsolation.destroyTime) {
            run.kill("abort or destroy did not return within \(ProcessIsolation.destroyTime.inNanoseconds / 1_000_000_000) s")
            _ = hasEnded(run, within: ProcessIsolation.killTime)
        }
    }

    private func hasEnded(_ run: Run, within time: Duration) -> Bool {
        var patience = Patience(time)
        return run.state.wait(&patience) { $0.hasEnded ? true : nil } ?? false
    }

    /// Kills the process.
    ///
    /// - Parameter why: a sentence without its full stop, for the log.
    func kill(_ why: String) { current.withLock { $0 }?.kill(why) }

    // MARK: Receiving

    /// Passes on what the plugin says, until its process has ended; runs on a thread of its own.
    private func watch(_ run: Run) {
        var nextLook = MonotonicTime.now
        receiving: while true {
            switch run.channel.receive(waiting: isolation.memory == nil ? 1000 : 100) {
            case .messages(let messages): for message in messages { take(message, run) }
            case .nothingYet: break
            case .ended: break receiving
            }
            guard let limit = isolation.memory, case let now = MonotonicTime.now, now >= nextLook else { continue }
            nextLook = now + .milliseconds(100)
            if let memory = run.process.memory, memory > limit {
                run.kill("it had \(memory >> 20) MiB of memory, and may have \(limit >> 20)")
            }
        }
        // On a busy machine a process that crashes may take a while from the end of its socket to its own.
        var end = run.process.end(within: .seconds(1))
        if end == nil {
            run.kill("it closed its socket")
            end = run.process.end(mustWait: true)
        }
        ended(run, end ?? .unknown)
    }

    private func ended(_ run: Run, _ how: SpawnedProcess.End) {
        current.withLock { if $0 === run { $0 = nil } }
        let report = unsafe CrashReport(run.notes.address, now: 0)?.instances.first
        let age = MonotonicTime.now.since(run.began)
        let (killed, isLeaving) = run.state.withLock { ($0.killed, $0.isLeaving) }
        // A process that is killed may have been about to end for a reason of its own.
        let why = how == .signaled(SIGKILL) || how == .unknown ? killed : nil
        let end = PluginEnd(how: why ?? "\(how)", call: report?.call, sequence: report?.sequence ?? 0, age: age)
        // Before destroy returns, because the gateway may end then.
        if isLeaving, how != .exited(status: 0) { logBadEnd(end) }
        let isUnexpected = run.state.withLock { state in
            state.hasEnded = true
            if case .success? = state.answer { return !state.isLeaving }
            state.answer = state.answer ?? .failure(.ended(end))
            return false
        }
        run.state.signal()
        if isUnexpected { host.events.pluginEnded(end) }
    }

    /// Logs the end of a process that was told to end, and did not by itself.
    private func logBadEnd(_ end: PluginEnd) {
        Log.error(
            "the plugin's process did not end normally",
            ["receiver": beginning.receiver, "plugin": beginning.path, "how": end.how, "call": end.call?.name ?? "none"])
    }

    private func take(_ message: PluginMessage, _ run: Run) {
        switch message {
        case .created(let identity): answer(run, .success(identity))
        case .notLoaded(let reason): answer(run, .failure(.notLoaded(reason)))
        case .refused(let reason): answer(run, .failure(.refused(PluginInstance.Refusal(message: reason))))
        case .started(let problem):
            run.state.withLock { $0.started = problem }
            run.state.signal()
        case .finished(let token, let outcome): host.events.finish(UInt(token), outcome)
        case .released(let place): run.profiles.release(place)
        case .health(let health, let reason): host.events.pluginStated(health, reason)
        case .log(let level, let message): host.events.pluginLogged(level, message)
        case .breach(let breach): host.events.pluginMisbehaved(breach)
        case .metric(let id, let kind, let name, let help, let labels):
            // The plugin's own process has refused what cannot be declared, and counts the ids.
            guard id <= UInt32(PluginMetrics.limit) else { return }
            if case let own = host.declare(kind, name, help, labels), own != 0 { run.metrics.withLock { $0[id] = own } }
        case .observed(let id, let value):
            if let own = run.metrics.withLock({ $0[id] }) { host.metrics.observe(own, value) }
        case .create, .deliver, .flush, .abort, .destroy, .start, .drain, .probe: run.kill("it sent a message that is not for the gateway")
        }
    }

    private func answer(_ run: Run, _ answer: Result<PluginIdentity, PluginInstance.StartError>) {
        // What a process says that is killed for its silence comes too late.
        run.state.withLock { if $0.answer == nil, $0.killed == nil { $0.answer = answer } }
        run.state.signal()
    }
}
