import ConfigJSON
import PluginHost
import Receivers

/// `gateway plugins`: shows which plugins would be loaded, and from where.
enum PluginsCommand {
    /// One plugin that the config names: what it is, or why it cannot be loaded.
    private struct Entry {
        let plugin: PluginName
        let receivers: [ReceiverConfig]
        let found: Result<Found, Failure>
    }

    private struct Found {
        let file: PluginFile
        let identity: PluginIdentity
    }

    private struct Failure: Error { let reason: String }

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--config"], flags: ["--json"])
        try arguments.refuseWords()
        let file = ConfigFile.read(arguments.value("--config") ?? CheckCommand.defaultConfig)
        let problems = file.problems { $0.hasPrefix("plugin_dirs") || $0.hasSuffix(".plugin") || $0.hasSuffix(".sha256") }
        guard problems.isEmpty else {
            for problem in problems { printError(problem.line(in: file.path)) }
            return 1
        }
        let entries = entries(file.config)
        let lines = entries.map { arguments.has("--json") ? json($0) : text($0) }
        print(arguments.has("--json") ? "[\(lines.joined(separator: ",\n "))]" : lines.joined(separator: "\n"))
        return entries.contains { if case .failure = $0.found { true } else { false } } ? 1 : 0
    }

    private static func entries(_ config: Config) -> [Entry] {
        var names: [PluginName] = []
        for receiver in config.receivers where !names.contains(receiver.pluginName) { names.append(receiver.pluginName) }
        return names.map { name in
            Entry(
                plugin: name, receivers: config.receivers.filter { $0.pluginName == name },
                found: Result { () throws(Failure) in try identify(name, config.pluginFolders) })
        }
    }

    /// Loads the plugin in a process of its own, since its constructors may crash.
    private static func identify(_ name: PluginName, _ folders: [String]) throws(Failure) -> Found {
        let file: PluginFile
        do throws(PluginLibrary.LoadError) { file = try name.find(in: folders) } catch { throw Failure(reason: "\(error)") }
        do throws(PluginInstance.StartError) { return Found(file: file, identity: try PluginInstance.identify(file)) } catch {
            switch error {
            case .notLoaded(let reason): throw Failure(reason: reason)
            case .refused(let refusal): throw Failure(reason: refusal.message)
            case .ended(let end): throw Failure(reason: "its process ended while it was loaded: \(end.how)")
            }
        }
    }

    private static func text(_ entry: Entry) -> String {
        switch entry.found {
        case .success(let found):
            let receivers = entry.receivers.map { $0.isolation == nil ? $0.name : "\($0.name) (in a process of its own)" }
            let words = [
                entry.plugin.name, "\(found.identity.name) \(found.identity.version)", found.file.path,
                "interface:\(found.identity.interface)",
                "sha256:\(found.identity.sha256)\(found.file.sha256 == nil ? "" : " pinned")", "for \(receivers.joined(separator: ", "))",
            ]
            return words.joined(separator: "  ")
        case .failure(let failure): return "\(entry.plugin.name)  cannot be loaded: \(failure.reason)"
        }
    }

    private static func json(_ entry: Entry) -> String {
        let receivers = names(entry.receivers)
        let head = "{\"plugin\":\(JSONValue.quoted(entry.plugin.name)),\"receivers\":\(receivers)"
        switch entry.found {
        case .success(let found):
            return """
                \(head),"isolated":\(names(entry.receivers.filter { $0.isolation != nil })),\
                "name":\(JSONValue.quoted(found.identity.name)),"version":\(JSONValue.quoted(found.identity.version)),\
                "interface":"\(found.identity.interface)","path":\(JSONValue.quoted(found.file.path)),\
                "sha256":"\(found.identity.sha256)","pinned":\(found.file.sha256 != nil),\
                "config_schema":\(schema(found.identity))}
                """
        case .failure(let failure): return "\(head),\"error\":\(JSONValue.quoted(failure.reason))}"
        }
    }

    /// The schema of the plugin's config; null where there is none, or none that can be read.
    private static func schema(_ identity: PluginIdentity) -> String {
        let problems = Problems()
        let value = JSONParser.parse(Array(identity.configSchema.utf8), dialect: .strict, problems: problems)
        return problems.list.isEmpty ? value?.text ?? "null" : "null"
    }

    private static func names(_ receivers: [ReceiverConfig]) -> String {
        "[\(receivers.map { JSONValue.quoted($0.name) }.joined(separator: ","))]"
    }
}
