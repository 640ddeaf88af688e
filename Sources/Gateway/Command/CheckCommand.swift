import ConfigJSON
import HTTPServer
import LinuxSystem
import PluginHost
import Receivers
import Telemetry

/// `gateway check`: finds everything that would keep a config from running, without running it.
enum CheckCommand {
    static let defaultConfig = "./gateway.json"

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--config"], flags: ["--connect"])
        try arguments.refuseWords()
        var file = ConfigFile.read(arguments.value("--config") ?? defaultConfig)
        PluginTrial.run(&file)
        file.add(file.config.fileProblems)
        file.problems.sortByPlace()
        file.warnings.sortByPlace()
        for line in file.lines { print(line) }
        guard file.problems.isEmpty else { return 1 }
        print("\(file.path): ok")
        return !arguments.has("--connect") || ConnectTrial.run(file.config) ? 0 : 1
    }
}

/// Makes an instance of each receiver's plugin as `run` would, and ends it again.
private enum PluginTrial {
    private struct Trial {
        let entry: ReceiverConfig
        let receiver: Receiver
        let thread: DeliveryThread

        init(_ entry: ReceiverConfig, _ folders: [String]) throws(SystemError) {
            var entry = entry
            // A constructor or a `create` that crashes is then a problem, and does not end the command.
            entry.isolation = entry.isolation ?? ProcessIsolation()
            (self.entry, receiver) = (entry, Receiver(entry, gatewayVersion: RunningGateway.version, isTrial: true))
            thread = DeliveryThread(of: receiver, entry)
            try thread.start(entry, from: folders)
        }
    }

    static func run(_ file: inout ConfigFile) {
        var trials: [Trial] = []
        for entry in file.config.receivers where !entry.plugin.isEmpty {
            do throws(SystemError) { trials.append(try Trial(entry, file.config.pluginFolders)) } catch {
                file.add([problem(entry, "\(error)")])
            }
        }
        var patience = Patience(DeliveryThread.processCreateTime)
        for trial in trials {
            switch trial.thread.creation(&patience) {
            case .made: file.warnings += warnings(trial)
            case .refused(let list): file.add(list)
            case .pending:
                let message = "create of the plugin has not returned after \(DeliveryThread.processCreateTime.inWords)"
                file.add([problem(trial.entry, message)])
            }
        }
        let shutdownTasks = trials.map { trial in ShutdownTask(trial.entry.name, until: .now) { trial.receiver.retire(trial.thread, $0) } }
        for task in shutdownTasks { task.start() }
        let deadline = MonotonicTime.now + Receiver.endingTime + .milliseconds(200)
        for task in shutdownTasks where task.isDone(until: deadline) { _ = task.takeResult() }
    }

    private static func problem(_ entry: ReceiverConfig, _ message: String) -> Problem {
        Problem(position: entry.pluginPosition, path: Problems.path("receivers", entry.name), message: message)
    }

    /// The warnings that a plugin logs, and a health other than ok that it reports before any delivery, as for an unusable folder.
    private static func warnings(_ trial: Trial) -> [Problem] {
        let said = trial.receiver.trialWarnings
        return said.flatMap { PluginProblems(PluginInstance.Refusal(message: $0), trial.entry).list } + health(trial)
    }

    private static func health(_ trial: Trial) -> [Problem] {
        guard let stated = trial.receiver.stated(by: trial.thread.number), stated.health != .ok else { return [] }
        let isRequired = trial.entry.requiredAtStart && stated.health == .failed
        let what = isRequired ? ", and it is required at the start" : ""
        return [problem(trial.entry, "is \(stated.health.rawValue) from the start\(what): \(printable(stated.reason))")]
    }
}
