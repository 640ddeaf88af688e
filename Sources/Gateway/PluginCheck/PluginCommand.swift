import ConfigJSON
import Glibc
import LinuxSystem
import PluginHost
import Telemetry

/// `gateway plugin`: writes the project of a new plugin, or tries whether a plugin keeps the contract of the plugin interface.
enum PluginCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let rest = Array(words.dropFirst())
        switch words.first {
        case "new": return try PluginNewCommand.run(rest)
        case "check": return try check(rest)
        default: throw UsageError("plugin needs a word behind it: new or check; see gateway help plugin")
        }
    }

    private static func check(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--config", "--timeout"], flags: ["--json"])
        guard arguments.words.count == 1, let path = arguments.words.first else { throw UsageError("plugin check needs one FILE.so") }
        guard path.hasSuffix(".so") else { throw UsageError("\(quotedForPeople(path)) does not end in .so") }
        let config = arguments.value("--config") ?? "{}"
        guard case .object? = JSONParser.parse(Array(config.utf8), dialect: .strict, problems: Problems())?.content else {
            throw UsageError("--config is not a JSON object")
        }
        guard let stepTime = parseDuration(arguments.value("--timeout") ?? "10s"), stepTime > .zero else {
            throw UsageError("--timeout is not a duration such as 10s")
        }
        var failures = 0
        var lines: [String] = []
        // Without a library that can be loaded, nothing else can be tried.
        var obstacle: String?
        for rule in PluginRule.allCases {
            let verdict = obstacle.map { .notTried($0) } ?? verdict(of: rule, path, config, stepTime)
            if case .fail(let text) = verdict {
                failures += 1
                if rule == .load { obstacle = "the plugin cannot be loaded" }
                if rule == .create, text.hasPrefix("it refuses") { obstacle = "the config is refused; --config gives another" }
                if rule == .create, text.hasPrefix("it did not end") { obstacle = "create or destroy does not return" }
            }
            let line = arguments.has("--json") ? json(rule, verdict) : text(rule, verdict)
            if arguments.has("--json") { lines.append(line) } else { print(line) }
        }
        if arguments.has("--json") { print("[\(lines.joined(separator: ",\n "))]") }
        return failures == 0 ? 0 : 1
    }

    private static func text(_ rule: PluginRule, _ verdict: PluginRule.Verdict) -> String {
        let word = verdict.word.padding(to: 10), name = rule.rawValue.padding(to: 15)
        return "\(word)\(name)\(rule.demand): \(printable(verdict.text))"
    }

    private static func json(_ rule: PluginRule, _ verdict: PluginRule.Verdict) -> String {
        """
        {"rule":"\(rule.rawValue)","demand":\(JSONValue.quoted(rule.demand)),"result":"\(verdict.word)",\
        "seen":\(JSONValue.quoted(verdict.text))}
        """
    }

    /// Tries a rule in a process of its own.
    private static func verdict(of rule: PluginRule, _ path: String, _ config: String, _ stepTime: Duration) -> PluginRule.Verdict {
        do throws(SystemError) {
            let ends = try Socket.pair()
            let socket = FileDescriptor(owning: ends.0)
            let process: SpawnedProcess
            do {
                let other = FileDescriptor(owning: ends.1)
                process = try SpawnedProcess.start([PluginRuleProcess.command, "\(getpid())", rule.rawValue], [other.number])
            }
            try? unsafe socket.writeAll(Array("\(path.absolutePath)\0\0\(config)\0\(stepTime.inNanoseconds)\0".utf8).span.bytes)
            Socket.finishSending(socket.number)
            return verdict(from: read(socket, process, stepTime * 3), process)
        } catch { return .notTried("\(error)") }
    }

    /// Reads the lines of the process until it ends, and kills it when it takes too long.
    private static func read(_ socket: borrowing FileDescriptor, _ process: SpawnedProcess, _ time: Duration) -> [String] {
        let deadline = MonotonicTime.now + time
        var bytes: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 1 << 20 {
            let left = max(0, deadline.nanoseconds - MonotonicTime.now.nanoseconds) / 1_000_000
            var ready = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&ready, 1, Int32(clamping: left)) > 0 else {
                process.kill()
                bytes += Array("late\t\n".utf8)
                break
            }
            let count = unsafe Glibc.read(socket.number, &room, room.count)
            if count <= 0 { break }
            bytes += room[..<count]
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private static func verdict(from lines: [String], _ process: SpawnedProcess) -> PluginRule.Verdict {
        // A plugin may have closed the socket, and go on.
        var end = process.end(within: .milliseconds(500))
        if end == nil {
            process.kill()
            end = process.end(within: .seconds(5))
        }
        let isLate = lines.last == "late\t"
        let step = lines.last { !$0.contains("\t") } ?? "the beginning"
        if let last = lines.last, !isLate {
            let parts = last.split(separator: "\t", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if parts.count == 2, let verdict = PluginRule.Verdict(parts[0], parts[1]) { return verdict }
        }
        return .fail(isLate ? "it did not end in time; the last step was: \(step)" : "\(end ?? .unknown); the last step was: \(step)")
    }
}

extension String {
    /// The text with blanks behind it.
    fileprivate func padding(to count: Int) -> String { self + String(repeating: " ", count: max(1, count - self.count)) }
}
