import ConfigJSON

/// `gateway check`: finds everything that would keep a config from running, without running it.
enum CheckCommand {
    static let defaultConfig = "./gateway.json"

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--config"])
        try arguments.refuseWords()
        var file = ConfigFile.read(arguments.value("--config") ?? defaultConfig)
        for entry in file.config.receivers where !entry.plugin.isEmpty {
            let receiver = Receiver(entry)
            let (problems, warnings) = Log.collectingWarnings { receiver.create(from: file.config.pluginFolders) }
            file.add(problems)
            for warning in warnings { file.warnings += PluginProblems(PluginInstance.Refusal(message: warning), entry).list }
            receiver.stop()
            _ = receiver.end()
        }
        file.add(Listener.Guards.problems(file.config))
        file.problems.sortByPlace()
        file.warnings.sortByPlace()
        for line in file.lines { print(line) }
        if file.problems.isEmpty { print("\(file.path): ok") }
        return file.problems.isEmpty ? 0 : 1
    }
}
