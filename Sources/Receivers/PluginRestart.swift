import LinuxSystem
import PluginHost
import Telemetry

/// How long to wait before a plugin's process is started again. A plain value.
struct ProcessEnds {
    private static let shortest = Duration.milliseconds(100)
    private static let longest = Duration.seconds(30)
    /// A process that has lived so long begins the count anew.
    private static let longLife = Duration.seconds(60)

    private var count = 0

    /// Adds the end of a process.
    ///
    /// - Returns: how long to wait: 100 ms after the first end, and twice as long after each further one, up to 30 s.
    mutating func add(_ end: PluginEnd) -> Duration {
        count = end.age >= Self.longLife ? 1 : count + 1
        return min(Self.longest, Self.shortest * (1 << min(count - 1, 20)))
    }
}

/// The end and the next start of a plugin's process; see ``PluginHost/ProcessIsolation``.
extension Receiver {
    /// Takes the open profiles of a plugin's process back after it has ended; called on a thread of the instance.
    func pluginEnded(_ end: PluginEnd, _ number: Int) {
        let now = MonotonicTime.now
        let (open, wait) = update { $0.processEnded(number, end, now) }
        wake()
        Log.error(
            "the plugin's process ended",
            [
                "receiver": name, "plugin": config.plugin, "how": end.how, "call": end.call?.name ?? "none",
                "sequence": "\(end.sequence)", "open": "\(open)", "started_again_in": wait.inWords,
            ])
    }

    /// Waits before a process is started again that ended before it had made the instance.
    ///
    /// - Returns: false when the instance is not wanted any more.
    func waitToRestart(_ number: Int, after wait: Duration, _ end: PluginEnd) -> Bool {
        let deadline = MonotonicTime.now + wait
        Log.error(
            "the plugin's process ended",
            [
                "receiver": name, "plugin": config.plugin, "how": end.how, "call": end.call?.name ?? "create", "open": "0",
                "started_again_in": wait.inWords,
            ])
        state.withLock { $0.restarts += 1 }
        return state.wait { state in
            guard let instance = state.instances[number], !instance.isLeaving else { return .done(false) }
            return MonotonicTime.now >= deadline ? .done(true) : .again(deadline)
        }
    }

    /// Starts the plugin, and its process if that has ended; called on the instance's thread.
    func restart(_ instance: PluginInstance, _ thread: DeliveryThread) {
        let (number, isFirst) = (thread.number, !state.withLock { $0.instances[thread.number]?.hasStarted ?? false })
        do throws(PluginInstance.StartError) { try instance.restart() } catch { return pluginEnded(PluginEnd(error), number) }
        switch thread.during(.start, { instance.start() }) {
        case .started: break
        // The pause ends before, when the end of the process is told.
        case .ended: return state.withLock { _ = $0.instances[number]?.startFailed("the plugin's process ended", .now) }
        case .failed(let problem):
            let wait = state.withLock { $0.instances[number]?.startFailed(problem, .now) } ?? .zero
            return Log.error(
                "the plugin cannot work yet",
                ["receiver": name, "plugin": config.plugin, "error": problem, "started_again_in": wait.inWords])
        }
        state.withLock { _ = $0.instances[number]?.started() }
        if !isFirst { Log.info("the plugin was started again", ["receiver": name, "plugin": config.plugin]) }
    }
}

extension PluginEnd {
    fileprivate init(_ error: PluginInstance.StartError) {
        switch error {
        case .notLoaded(let reason): self.init(how: "its plugin is not loaded: \(reason)")
        case .refused(let refusal): self.init(how: "its plugin refuses the config: \(refusal.message)")
        case .ended(let end): self = end
        }
    }
}

extension Receiver.State {
    /// Puts the open profiles of an instance back, whose process has ended.
    ///
    /// - Returns: how many there were, and how long to wait before the process is started again.
    mutating func processEnded(_ number: Int, _ end: PluginEnd, _ now: MonotonicTime) -> (open: Int, wait: Duration) {
        let opened = open.abandon(number)
        var sequences: Set<UInt64> = []
        for operation in opened {
            instances[number]?.closed(operation.operation)
            if operation.isProbe { instances[number]?.pace.probeEnded() }
            guard case .delivery(let handle) = operation.operation else {
                flushed(number)
                continue
            }
            sequences.insert(queue[handle].sequence)
            takeBack(handle)
        }
        suspects.crashed(open: sequences)
        restarts += 1
        return (sequences.count, instances[number]?.processEnded(end, now) ?? .zero)
    }
}
