import ConfigJSON
import Glibc
import LinuxSystem
import PluginHost
import ProfileArchive
import Receivers

/// `gateway plugins`: shows which plugins would be loaded, and from where.
enum PluginsCommand {
    /// One plugin that the config names: its library, or why it cannot be loaded.
    private struct Entry {
        let plugin: PluginName
        let receivers: [String]
        let library: Result<PluginLibrary, PluginLibrary.LoadError>
    }

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
        return entries.contains { if case .failure = $0.library { true } else { false } } ? 1 : 0
    }

    private static func entries(_ config: Config) -> [Entry] {
        var names: [PluginName] = []
        for receiver in config.receivers where !names.contains(receiver.pluginName) { names.append(receiver.pluginName) }
        return names.map { name in
            let receivers = config.receivers.filter { $0.pluginName == name }.map(\.name)
            do throws(PluginLibrary.LoadError) {
                let library = try PluginLibrary.load(name, from: config.pluginFolders)
                return Entry(plugin: name, receivers: receivers, library: .success(library))
            } catch { return Entry(plugin: name, receivers: receivers, library: .failure(error)) }
        }
    }

    private static func text(_ entry: Entry) -> String {
        switch entry.library {
        case .success(let library):
            "\(entry.plugin.name)  \(library.name) \(library.version)  \(library.path)  sha256:\(sha256(library.path))\(library.file.sha256 == nil ? "" : " pinned")  for \(entry.receivers.joined(separator: ", "))"
        case .failure(let error): "\(entry.plugin.name)  cannot be loaded: \(error)"
        }
    }

    private static func json(_ entry: Entry) -> String {
        let receivers = entry.receivers.map(JSONValue.quoted).joined(separator: ",")
        let head = "{\"plugin\":\(JSONValue.quoted(entry.plugin.name)),\"receivers\":[\(receivers)]"
        switch entry.library {
        case .success(let library):
            return """
                \(head),"name":\(JSONValue.quoted(library.name)),"version":\(JSONValue.quoted(library.version)),\
                "path":\(JSONValue.quoted(library.path)),"sha256":"\(sha256(library.path))","pinned":\(library.file.sha256 != nil)}
                """
        case .failure(let error): return "\(head),\"error\":\(JSONValue.quoted("\(error)"))}"
        }
    }
}

/// The SHA-256 of a file in lower-case hexadecimal, or the error.
private func sha256(_ path: String) -> String {
    do throws(SystemError) {
        return SHA256.hex(of: try FileDescriptor.open(path, O_RDONLY).readAll(limit: 1 << 30))
    } catch { return "\(error)" }
}
