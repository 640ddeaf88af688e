package import ConfigJSON
package import LinuxSystem
package import PluginHost
import Synchronization
import Telemetry

/// One plugin instance of a receiver, and the thread that makes the calls into it, from `create` to `destroy`.
///
/// Each instance has its own thread, so that an instance whose call does not return blocks neither the next instance nor anything
/// else.
package final class DeliveryThread: Sendable {
    /// The result of loading the plugin and of `create`.
    package enum Creation: Sendable {
        /// `create` has not returned.
        case pending
        case made(PluginInstance)
        case refused([Problem])
    }

    /// The time that `create` may take before its receiver is started without it.
    package static let createTime = Duration.seconds(3)
    /// The time that it may take in a process of its own, which must begin first, where nothing else waits for it.
    package static let processCreateTime = Duration.seconds(10)

    /// Identifies the instance within its receiver; later ones have higher numbers.
    package let number: Int
    /// The plugin as the config names it.
    let plugin: PluginName
    /// The config the instance is made from.
    let config: String
    /// How the plugin runs in a process of its own; nil when it runs in the gateway's.
    let isolation: ProcessIsolation?
    private let receiver: Receiver
    private let creation = Monitor(Creation.pending)
    private let thread = Mutex<Thread?>(nil)
    /// The notes for the case of a crash; nil when none are kept.
    let record: CallRecord?

    package init(of receiver: Receiver, _ config: ReceiverConfig) {
        number = receiver.instanceCount.wrappingAdd(1, ordering: .relaxed).oldValue
        (self.receiver, plugin, self.config) = (receiver, config.pluginName, config.pluginConfig.text)
        var isolation = config.isolation
        isolation?.hasLowPriority = receiver.trial == nil
        self.isolation = isolation
        record = receiver.trial == nil && isolation == nil ? CallRecord(receiver: config.name) : nil
    }

    /// The instance; nil while it has not been created.
    package var instance: PluginInstance? { if case .made(let instance) = creation.withLock({ $0 }) { instance } else { nil } }
    var isRefused: Bool { if case .refused = creation.withLock({ $0 }) { true } else { false } }

    /// Starts the thread, which loads the plugin and creates the instance; the instance then waits until it is made the current
    /// one.
    ///
    /// - Parameters:
    ///   - previous: the instance before, whose counters are continued if it is of the same plugin.
    ///   - retries: whether a process that ends before it has made the instance is started again and again.
    package func start(
        _ config: ReceiverConfig, from folders: [String], after previous: DeliveryThread? = nil, retries: Bool = false
    ) throws(SystemError) {
        receiver.state.withLock { $0.instances[number] = InstanceState(maxInFlight: config.maxInFlight, record, now: .now) }
        do throws(SystemError) {
            try thread.withLock { (thread) throws(SystemError) in
                thread = try Thread("rx-\(receiver.name)") { [self] in run(config, folders, previous, retries) }
            }
        } catch {
            receiver.state.withLock { $0.instances[number] = nil }
            throw error
        }
    }

    /// Waits for `create`, as long as there is patience.
    package func creation(_ patience: inout Patience) -> Creation {
        creation.wait(&patience) { creation in if case .pending = creation { nil } else { creation } } ?? .pending
    }

    /// Waits until the thread has ended; only called when its last call has returned.
    func join() { thread.withLock { $0.take() }?.join() }

    /// Detaches the thread, which may never end.
    func detach() { thread.withLock { $0.take() }?.detach() }

    // MARK: On the thread

    private func run(_ config: ReceiverConfig, _ folders: [String], _ previous: DeliveryThread?, _ retries: Bool) {
        // So that a chdir or umask of a plugin changes nothing for the others.
        separateWorkingDirectory()
        let made =
            if let isolation { createProcess(config, isolation, folders, previous, retries) } else { create(config, folders, previous) }
        creation.withLock { $0 = made }
        let isAbandoned = receiver.noteCreation(made, of: self)
        creation.signal()
        if case .made(let instance) = made {
            if isAbandoned { during(.destroy) { instance.destroy() } } else { receiver.deliverUntilEnd(with: instance, self) }
        }
        receiver.noteEnd(of: number)
    }

    private func create(_ config: ReceiverConfig, _ folders: [String], _ previous: DeliveryThread?) -> Creation {
        do throws(PluginProblems) {
            record?.name(config.plugin)
            let library = try during(.load) { () throws(PluginProblems) in try Self.load(config, from: folders) }
            record?.name(library)
            let metrics = previous?.instance?.name == library.name ? previous?.instance?.host.metrics : nil
            let host = HostServices(
                events: InstanceEvents(receiver, number), metrics: PluginMetrics(continuing: metrics, of: library.name),
                references: config.pluginConfig.wholeReferences, facts: receiver.facts(config))
            do throws(PluginInstance.Refusal) {
                let instance = try during(.create) { () throws(PluginInstance.Refusal) in
                    try PluginInstance(library, config: self.config, host: host)
                }
                return .made(instance)
            } catch { throw PluginProblems(error, config) }
        } catch { return .refused(error.list) }
    }

    private func createProcess(
        _ config: ReceiverConfig, _ isolation: ProcessIsolation, _ folders: [String], _ previous: DeliveryThread?, _ retries: Bool
    ) -> Creation {
        let file: PluginFile
        do throws(PluginLibrary.LoadError) { file = try config.pluginName.find(in: folders) } catch {
            return .refused(PluginProblems(error, config).list)
        }
        let metrics = previous?.instance?.file == file ? previous?.instance?.host.metrics : nil
        let host = HostServices(
            events: InstanceEvents(receiver, number), metrics: PluginMetrics(continuing: metrics),
            descriptors: PluginDescriptors(limit: .max))
        var ends = ProcessEnds()
        while true {
            do throws(PluginInstance.StartError) {
                return .made(
                    try PluginInstance(
                        file, config: self.config, references: config.pluginConfig.wholeReferences, receiver.facts(config), isolation,
                        createTime: config.deliveryTimeout, host: host))
            } catch {
                switch error {
                case .notLoaded(let reason): return .refused(PluginProblems(notLoaded: reason, config).list)
                case .refused(let refusal): return .refused(PluginProblems(refusal, config).list)
                case .ended(let end):
                    let problem = PluginProblems(notLoaded: "its process ended while it was created: \(end.how)", config)
                    guard retries, receiver.waitToRestart(number, after: ends.add(end), end) else { return .refused(problem.list) }
                }
            }
        }
    }

    /// Makes a call into the plugin on this thread, and notes it for the case of a crash.
    func during<R, E: Error>(_ call: CallRecord.Call, sequence: UInt64 = 0, _ body: () throws(E) -> R) throws(E) -> R {
        guard let record else { return try body() }
        return try record.during(call, sequence: sequence, body)
    }

    private static func load(_ config: ReceiverConfig, from folders: [String]) throws(PluginProblems) -> PluginLibrary {
        do throws(PluginLibrary.LoadError) { return try PluginLibrary.load(config.pluginName, from: folders) } catch {
            throw PluginProblems(error, config)
        }
    }
}

extension Receiver {
    /// Notes the result of `create`; called on the instance's thread, possibly long after others stopped waiting for it.
    ///
    /// - Returns: true when the instance has been abandoned meanwhile.
    fileprivate func noteCreation(_ creation: DeliveryThread.Creation, of thread: DeliveryThread) -> Bool {
        let now = MonotonicTime.now
        var refusal: String?
        var made: PluginInstance?
        if case .made(let instance) = creation { made = instance }
        if case .refused(let problems) = creation { refusal = problems.map(\.description).joined(separator: "; ") }
        let (isAbandoned, wasOverdue, call) = state.withLock { state in
            let instance = state.instances[thread.number]
            defer { instance?.created(refusal, made) }
            return (instance == nil || instance?.phase == .abandoned, instance?.overdue != nil, instance?.call)
        }
        wake()
        if case .made(let instance) = creation, trial == nil {
            let identity = instance.identity
            Log.info(
                "plugin loaded",
                [
                    "receiver": name, "plugin": identity.name, "version": identity.version, "interface": identity.interface,
                    "path": instance.file.path, "sha256": identity.sha256, "isolation": instance.isIsolated ? "process" : "none",
                ])
        }
        guard isAbandoned || wasOverdue else { return false }
        let what =
            isAbandoned ? "create of the plugin has returned; nobody waits for it any more" : "create of the plugin has returned"
        Log.write(
            refusal == nil ? .info : .error, what,
            [
                "receiver": name, "plugin": thread.plugin.name, "after": now.since(call?.since ?? now).inWords,
                "error": refusal ?? "none",
            ])
        return isAbandoned
    }
}

/// Forwards the events of one instance to its receiver.
final class InstanceEvents: PluginEvents {
    let receiver: Receiver
    private let number: Int

    init(_ receiver: Receiver, _ number: Int) { (self.receiver, self.number) = (receiver, number) }

    func finish(_ token: UInt, _ outcome: DeliveryOutcome) { receiver.finish(token, outcome) }
    func pluginStated(_ health: Health, _ reason: String) { receiver.pluginStated(health, reason, by: number) }
    func pluginLogged(_ level: Log.Level, _ message: String) { receiver.pluginLogged(level, message) }
    func timerSet() { receiver.timerSet() }
    func pluginMisbehaved(_ breach: PluginBreach) { receiver.noteBreach(breach) }
    func pluginEnded(_ end: PluginEnd) { receiver.pluginEnded(end, number) }
}

extension Receiver {
    /// Takes the health that an instance states; that of a former instance is not the receiver's any more.
    func pluginStated(_ health: Health, _ reason: String, by number: Int) {
        let changed = state.withLock { state in
            defer { state.instances[number]?.stated = (health, reason) }
            return number == state.current && state.instances[number]?.stated.health != health
        }
        if changed, trial == nil {
            logOfPlugin(health == .ok ? .info : .warning, "receiver is \(health.rawValue)", ["receiver": name, "reason": reason])
        }
    }

    /// Wakes the instance's thread, which sleeps until its next timer.
    func timerSet() {
        // With the lock, so that the signal does not come between the thread's look at the timers and its sleep.
        let mustWake = state.withLock { $0.mustWake(now: .now) }
        if mustWake { wake() }
    }

    func pluginLogged(_ level: Log.Level, _ message: String) {
        if level >= .warning, let trial { return trial.withLock { $0.append(message) } }
        logOfPlugin(level, message, ["receiver": name])
    }
}

/// The reasons why a receiver has no plugin instance, each with its position in the config.
package struct PluginProblems: Error {
    package let list: [Problem]

    package init(list: [Problem]) {
        self.list = list
    }
}

extension PluginProblems {
    /// The problem of a plugin that cannot be loaded.
    package init(_ error: PluginLibrary.LoadError, _ config: ReceiverConfig) { self.init(notLoaded: "\(error)", config) }

    init(notLoaded reason: String, _ config: ReceiverConfig) {
        let path = "\(Problems.path("receivers", config.name)).plugin"
        list = [Problem(position: config.pluginPosition, path: path, message: printable(reason))]
    }

    /// The problems that a plugin reports: it names a member of its own config, which is located in the gateway's config.
    package init(_ refusal: PluginInstance.Refusal, _ config: ReceiverConfig) {
        let path = Problems.path("receivers", config.name)
        list = refusal.message.split(separator: "\n").map { line in
            // A quoted name may contain any character.
            var isQuoted = false
            let member = line.prefix { character in
                if character == "\"" { isQuoted.toggle() }
                return isQuoted || character != ":"
            }
            let isPath = member.count < line.count && (!member.contains(" ") || member.hasSuffix("\"]"))
            let isUnknown = line.dropFirst(member.count).hasPrefix(": unknown")
            let place = config.pluginConfig.place(of: member, ofName: isUnknown)
            let whole = isPath ? "\(path).config.\(member)" : "\(path).config"
            let message = isPath ? line.dropFirst(member.count + 1).drop { $0 == " " } : line
            return Problem(position: place, path: printable(whole), message: printable(String(message)))
        }
    }
}
