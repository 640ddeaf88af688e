import Glibc
import LinuxSystem

/// The command line: what the first word asks for.
@main
enum Command {
    static func main() {
        openStandardDescriptors()
        ignoreErrorSignals()
        let status = run(ProcessStart.arguments)
        Log.flush()
        guard AbandonedInstances.isEmpty else {
            // Threads are still in plugin code, and destructors would run beside them.
            fflush(nil)
            _exit(status)
        }
        exit(status)
    }

    /// - Returns: 0 done, 1 the thing asked for failed, 2 wrong usage.
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
            case "send": return try SendCommand.run(rest)
            case "replay": return try ReplayCommand.run(rest)
            case "queue": return try QueueCommand.run(rest)
            case "plugins": return try PluginsCommand.run(rest)
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

/// A command line that says nothing this program does.
struct UsageError: Error {
    let message: String
    init(_ message: String) { self.message = message }
}

/// Writes a line for the person at the terminal to standard error.
func printError(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
}

/// The words after a command: `--name value` or `--name=value` options, and the rest in order.
struct Arguments {
    private var options: [String: [String]] = [:]
    private(set) var words: [String] = []

    /// - Parameters:
    ///   - options: those that take a value.
    ///   - flags: those that do not.
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
