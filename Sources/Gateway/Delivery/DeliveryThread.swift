import ConfigJSON
import LinuxSystem
import Synchronization

/// One plugin instance of a receiver, and the thread that makes the calls into it; the instance goes with the thread.
///
/// Each instance has a thread of its own, so that one whose call does not return does not keep profiles from the next one.
final class DeliveryThread: Sendable {
    /// Tells the receiver's instances apart; later ones are higher.
    let number: Int
    let instance: PluginInstance
    let library: PluginLibrary
    /// The config the instance was made from.
    let config: String
    let events: InstanceEvents
    private let thread = Mutex<Thread?>(nil)

    /// Loads the plugin of a config and makes an instance.
    ///
    /// - Parameter previous: whose counters go on when it is of the same plugin.
    init(
        of receiver: Receiver, _ config: ReceiverConfig, from folders: [String], after previous: DeliveryThread? = nil
    ) throws(PluginProblems) {
        library = try Self.load(config, from: folders)
        number = receiver.instanceCount.wrappingAdd(1, ordering: .relaxed).oldValue
        events = InstanceEvents(receiver, number)
        self.config = config.pluginConfig.text
        let metrics = previous?.library.name == library.name ? previous?.instance.host.metrics : nil
        let host = HostServices(
            events: events, metrics: PluginMetrics(continuing: metrics), references: config.pluginConfig.wholeReferences)
        do throws(PluginInstance.Refusal) {
            instance = try PluginInstance(library, config: self.config, host: host)
        } catch { throw PluginProblems(error, config) }
    }

    /// Loads the plugin of a config; one that is loaded already is found again.
    static func load(_ config: ReceiverConfig, from folders: [String]) throws(PluginProblems) -> PluginLibrary {
        do throws(PluginLibrary.LoadError) { return try PluginLibrary.load(config.plugin, from: folders) } catch {
            let path = "\(Problems.path("receivers", config.name)).plugin"
            throw PluginProblems(list: [Problem(position: config.pluginPosition, path: path, message: "\(error)")])
        }
    }

    func start() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("rx-\(events.receiver.name)") { [self] in
                events.receiver.deliverUntilEnd(with: instance, number: number)
            }
        }
    }

    /// Waits for the thread's end; an instance that never had one is destroyed here.
    func join() {
        let hadThread = thread.withLock { thread in
            guard let running = thread.take() else { return false }
            running.join()
            return true
        }
        if !hadThread { instance.destroy() }
    }
}

/// What one instance says, for its receiver.
final class InstanceEvents: PluginEvents {
    let receiver: Receiver
    private let number: Int
    /// Its health by its own words, also while it is not at work yet.
    let stated = Mutex<(Health, String)>((.ok, ""))

    init(_ receiver: Receiver, _ number: Int) { (self.receiver, self.number) = (receiver, number) }

    func settle(_ token: UInt, _ outcome: DeliveryOutcome) { receiver.settle(token, outcome) }

    func pluginStated(_ health: Health, _ reason: String) {
        stated.withLock { $0 = (health, reason) }
        receiver.pluginStated(health, reason, by: number)
    }

    func pluginLogged(_ level: Log.Level, _ message: String) { receiver.pluginLogged(level, message) }
    func pluginMisbehaved(_ what: String) { receiver.pluginMisbehaved(what) }
}

extension Receiver {
    /// What an instance says of itself; of a former one it is not the receiver's any more.
    func pluginStated(_ health: Health, _ reason: String, by number: Int) {
        let changed = state.withLock { state in
            guard number == state.open.instance else { return false }
            defer { (state.stated, state.statedReason) = (health, reason) }
            return state.stated != health
        }
        if changed { Log.write(health == .ok ? .info : .warning, "receiver is \(health.rawValue)", ["receiver": name, "reason": reason]) }
    }

    func pluginLogged(_ level: Log.Level, _ message: String) { Log.write(level, message, ["receiver": name]) }

    func pluginMisbehaved(_ what: String) {
        Log.error("plugin broke its contract", ["receiver": name, "plugin": config.plugin, "what": what])
    }
}

/// Why a receiver has no plugin instance: each reason with its place in the config.
struct PluginProblems: Error {
    let list: [Problem]
}

extension PluginProblems {
    /// A plugin names the member in its own config; the path leads to the place in ours.
    init(_ refusal: PluginInstance.Refusal, _ config: ReceiverConfig) {
        let path = Problems.path("receivers", config.name)
        list = refusal.message.split(separator: "\n").map { line in
            // A name in quotes may hold anything.
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
