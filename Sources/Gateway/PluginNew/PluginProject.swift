import Glibc
import LinuxSystem

/// The files of a new plugin's project.
struct PluginProject {
    private let files: [(path: String, text: String)]

    static let packagePlaceholder = "@PACKAGE@"

    /// Why a project is not written.
    struct Obstacle: Error { let reason: String }

    /// - Parameters:
    ///   - version: the gateway's version.
    ///   - package: the Swift expression for the gateway's package, where the language needs one.
    init(_ name: PluginProjectName, _ language: PluginLanguage, version: String, package: String?) {
        let values = [
            "@NAME@": name.name, "@IDENT@": name.identifier, "@TYPE@": name.type, "@VERSION@": version,
            Self.packagePlaceholder: package ?? "",
        ]
        files = language.templates.map { (Self.replacing(values, in: $0.path), Self.replacing(values, in: $0.text)) }
    }

    /// The path of the plugin's source, which is the first file in the table of templates.
    var source: String { files.first?.path ?? "" }
    var hasMakefile: Bool { files.contains { $0.path == "Makefile" } }

    /// Puts values in the place of placeholders, and looks at no value again.
    private static func replacing(_ values: [String: String], in text: String) -> String {
        var result = ""
        var rest = text[...]
        while let sign = rest.firstIndex(of: "@") {
            result += rest[..<sign]
            rest = rest[sign...]
            if let (placeholder, value) = values.first(where: { rest.hasPrefix($0.key) }) {
                result += value
                rest = rest.dropFirst(placeholder.count)
            } else {
                result.append(rest.removeFirst())
            }
        }
        return result + rest
    }

    /// Writes the project into a new folder, or one that is empty: all of it or nothing.
    func write(_ name: String, in parent: String) throws(Obstacle) {
        do {
            let parent = try OpenFolder(parent)
            if let present = try parent.status(of: name) {
                guard present.kind == .folder else { throw Obstacle(reason: "there is something else of that name") }
                let names = try OpenFolder(name, in: parent).names()
                guard names.isEmpty else { throw Obstacle(reason: "the folder exists and is not empty") }
            }
            // The project gets its name when it is complete; a rename replaces a folder only while that is empty.
            let unfinished = ".\(name).\(getpid()).new"
            do throws(SystemError) {
                let folder = try parent.make(unfinished, mode: FileMode(0o777), isSynced: false)
                for file in files { try Self.write(file.text, to: file.path, in: folder) }
                try parent.rename(unfinished, to: name)
            } catch {
                Self.remove(unfinished, in: parent)
                throw error
            }
        } catch let obstacle as Obstacle {
            throw obstacle
        } catch { throw Obstacle(reason: "\(error)") }
    }

    private static func write(_ text: String, to path: String, in folder: OpenFolder) throws(SystemError) {
        let parts = path.pathComponents
        let place = try folder.make(parts.dropLast().joined(separator: "/"), mode: FileMode(0o777), isSynced: false)
        let file = try place.open(parts.last ?? path, O_WRONLY | O_CREAT | O_EXCL, mode: text.hasPrefix("#!") ? 0o777 : 0o666)
        do throws(SystemError) {
            try unsafe file.writeAll(Array(text.utf8).span.bytes)
        } catch { throw SystemError("write \(place.path(of: parts.last ?? path))", code: error.code) }
    }

    /// Removes a folder with all that is in it, as far as that is possible.
    private static func remove(_ name: String, in parent: OpenFolder) {
        if let folder = try? OpenFolder(name, in: parent), let inner = try? folder.list() {
            for file in inner.files { try? folder.remove(file) }
            for name in inner.folders { remove(name, in: folder) }
        }
        try? parent.removeFolder(name)
    }
}
