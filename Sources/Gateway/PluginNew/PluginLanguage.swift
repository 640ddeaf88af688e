import CPluginTemplates
import LinuxSystem

/// A language that there are templates for.
struct PluginLanguage {
    /// One file, with placeholders in its path and its text.
    struct Template {
        let path: String
        let text: String
    }

    /// The word for `--language`: `cpp`.
    let name: String
    let templates: [Template]

    /// All languages, in the order of the table in the target CPluginTemplates.
    static let all: [PluginLanguage] = {
        var found: [(name: String, templates: [Template])] = []
        var number = 0
        while let file = unsafe plugin_template_at(number)?.pointee {
            let name = unsafe String(cString: file.language)
            if found.last?.name != name { found.append((name, [])) }
            unsafe found[found.count - 1].templates.append(Template(path: String(cString: file.path), text: String(cString: file.text)))
            number += 1
        }
        return found.map { PluginLanguage(name: $0.name, templates: $0.templates) }
    }()

    /// The words of all languages: `c, cpp`.
    static var names: String { all.map(\.name).joined(separator: ", ") }

    /// Whether a project depends on the gateway's own package.
    var needsPackage: Bool { templates.contains { $0.text.contains(PluginProject.packagePlaceholder) } }
}
