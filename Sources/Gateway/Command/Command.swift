import Glibc
import LinuxSystem
import PluginHost
import Receivers
import Telemetry

/// The command line; runs the command that the first word names.
@main
enum Command {
    static func main() {
        openStandardDescriptors()
        ignoreErrorSignals()
        let status = run(ProcessStart.arguments)
        CrashGuard.processEnds()
        Log.flush()
        guard AbandonedInstances.isEmpty else {
            // Threads are still running plugin code, so destructors must not run.
            fflush(nil)
            _exit(status)
        }
        exit(status)
    }

    /// - Returns: the exit status: 0 done, 1 failed, 2 wrong usage.
    private static func run(_ arguments: [String]) -> Int32 {
        guard let word = arguments.first else {
            printError(HelpCommand.overview)
            return 2
        }
        let rest = Array(arguments.dropFirst())
        do throws(UsageError) {
            switch word {
            case "run": return try RunCommand.run(rest)
            case "check": return try CheckCommand.run(rest)
            case "reload": return try ReloadCommand.run(rest)
            case "status": return try StatusCommand.run(rest)
            case "send": return try SendCommand.run(rest)
            case "replay": return try ReplayCommand.run(rest)
            case "profile": return try ProfileCommand.run(rest)
            case "queue": return try QueueCommand.run(rest)
            case "plugins": return try PluginsCommand.run(rest)
            case "plugin": return try PluginCommand.run(rest)
            case PluginChild.command, PluginRuleProcess.command: return runPlugin(word, rest)
            case "version", "--version": return try VersionCommand.run(rest)
            case "help", "--help", "-h": return try HelpCommand.run(rest)
            default: throw UsageError("no command \(quotedForPeople(word)); gateway help lists them")
            }
        } catch {
            printError("gateway: \(error.message)")
            return 2
        }
    }
}

extension Command {
    /// Runs a plugin in this process; only the gateway starts itself with such a command.
    private static func runPlugin(_ command: String, _ words: [String]) -> Int32 {
        guard let parent = words.first.flatMap({ Int32($0) }), parent == getppid() else {
            printError("gateway: \(command) is a command that the gateway itself gives")
            return 2
        }
        guard command == PluginRuleProcess.command else { return PluginChild.run(parent: parent) }
        return words.last.flatMap(PluginRule.init).map { PluginRuleProcess.run($0, parent: parent) } ?? 2
    }
}

/// An invalid command line.
struct UsageError: Error {
    let message: String
    init(_ message: String) { self.message = message }
}

/// Writes a line to standard error, for the person at the terminal.
func printError(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
}

/// The words after a command: options `--name value` or `--name=value`, and the others in order.
struct Arguments {
    private var options: [String: [String]] = [:]
    private(set) var words: [String] = []

    /// - Parameters:
    ///   - options: the options that take a value.
    ///   - flags: the options without a value.
    init(_ arguments: [String], options: Set<String> = [], flags: Set<String> = []) throws(UsageError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("--"), argument != "--" else {
                if argument == "--" { words += rest; return }
                words.append(argument)
                continue
            }
            let name = String(argument.prefix { $0 != "=" })
            if flags.contains(argument) {
                self.options[name, default: []].append("")
            } else if options.contains(name) {
                let value = argument.contains("=") ? String(argument.dropFirst(name.count + 1)) : rest.popFirst()
                guard let value else { throw UsageError("\(name) needs a value") }
                self.options[name, default: []].append(value)
            } else {
                throw UsageError("unknown option \(quotedForPeople(argument))")
            }
        }
    }

    /// The last value of an option.
    func value(_ name: String) -> String? { options[name]?.last }
    func values(_ name: String) -> [String] { options[name] ?? [] }
    func has(_ flag: String) -> Bool { options[flag] != nil }

    func refuseWords() throws(UsageError) {
        if let word = words.first { throw UsageError("unexpected \(quotedForPeople(word))") }
    }
}
