import Foundation

@testable import TestSupport

/// Packages outside the project's own that depend on it, built once for all tests and kept below `.build` for the next run.
enum PluginPackages {
    private static let folder = "\(Project.root)/.build/plugin-packages"
    /// SwiftPM and git keep nothing of it in the home folder of who runs the tests.
    private static let environment = [
        "HOME": "\(folder)/home", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000",
    ]

    /// A built package: its shared objects, and what the build printed.
    struct Built {
        let libraries: [String]
        let output: String
    }

    /// The template of a new plugin, `Plugins/OutsideSink` and the plugin in Swift of docs/writing-plugins.md, in a package that depends
    /// on a tag of the project; `make test` of the template has passed.
    static let tagged = Result { try makeTagged() }
    /// The example of an async plugin, which depends on the project by path.
    static let example = Result { try makeExample() }

    private static func makeTagged() throws -> Built {
        let package = try taggedPackage()
        let output = try run(["nice", "make", "test", "GATEWAY=\(try Project.built("gateway"))"], in: package)
        return Built(libraries: ["MySink", "OutsideSink", "Documented"].map { "\(package)/.build/release/lib\($0).so" }, output: output)
    }

    private static func makeExample() throws -> Built {
        let build = "\(folder)/async-swift"
        let output = try run(
            ["nice", "swift", "build", "--scratch-path", build, "--product", "JournalSink"],
            in: "\(Project.root)/examples/plugins/async-swift")
        return Built(libraries: ["\(build)/debug/libJournalSink.so"], output: output)
    }

    /// Commits and tags the project as it is in a repository of its own, and makes the package beside it.
    ///
    /// - Returns: the folder of the package, which an earlier run may have built.
    private static func taggedPackage() throws -> String {
        let new = "\(folder)/new", repository = "\(new)/profile-gateway", package = "\(new)/my-sink"
        try? FileManager.default.removeItem(atPath: new)
        defer { try? FileManager.default.removeItem(atPath: new) }
        for folder in ["\(folder)/home", "\(repository)/Tests", "\(package)/Sources", "\(package)/OutsideSink", "\(package)/Documented"] {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }
        for name in ["Package.swift", ".gitignore", "Sources", "Plugins", "Tests/TestSupport"] {
            try FileManager.default.copyItem(atPath: "\(Project.root)/\(name)", toPath: "\(repository)/\(name)")
        }
        let git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
        for words in [["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"], ["tag", "1.0.0"]] {
            _ = try run(git + words, in: repository)
        }
        try writePackage(package)
        // The same project and package were built already when a folder has the name of their content.
        let content = try run(["sh", "-c", "git -C profile-gateway rev-parse HEAD && cat my-sink/*/* my-sink/[A-Z]* | cksum"], in: new)
        let name = content.split { !$0.isLetter && !$0.isNumber }.joined(separator: "-")
        if !FileManager.default.fileExists(atPath: "\(folder)/tagged-\(name)") {
            for old in try FileManager.default.contentsOfDirectory(atPath: folder) where old.hasPrefix("tagged-") {
                try FileManager.default.removeItem(atPath: "\(folder)/\(old)")
            }
            try FileManager.default.moveItem(atPath: new, toPath: "\(folder)/tagged-\(name)")
        }
        return "\(folder)/tagged-\(name)/my-sink"
    }

    /// Writes the template's files with their placeholders replaced, and adds the other plugin.
    private static func writePackage(_ package: String) throws {
        let values = [
            "NAME": "my-sink", "TYPE": "MySink", "IDENT": "my_sink", "VERSION": "1.0.0",
            // The path of the repository stays true when its folder is renamed.
            "PACKAGE": #".package(url: "file://\(Context.packageDirectory)/../profile-gateway", exact: "1.0.0")"#,
        ]
        func filled(_ text: String) -> String { values.reduce(text) { $0.replacingOccurrences(of: "@\($1.key)@", with: $1.value) } }
        func write(_ name: String, _ text: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: "\(package)/\(name)")) }
        let template = "\(Project.root)/Templates/swift"
        for name in TestFolder.files(below: template) { try write(filled(name), filled(try Project.text(of: "\(template)/\(name)"))) }
        let others = """

            for name in ["OutsideSink", "Documented"] {
                package.products.append(.library(name: name, type: .dynamic, targets: [name]))
                package.targets.append(
                    .target(name: name, dependencies: [.product(name: "PluginKit", package: "profile-gateway")], path: name))
            }

            """
        try write("Package.swift", Project.text(of: "\(package)/Package.swift") + others)
        try write("OutsideSink/OutsideSink.swift", Project.text(of: "\(Project.pluginSources)/OutsideSink/OutsideSink.swift"))
        try write("OutsideSink/Names.swift", namesOfKit())
        let document = try Project.text(of: "\(Project.root)/docs/writing-plugins.md")
        guard let shown = document.firstMatch(of: #/```swift\n(import ConfigJSON\n(?s:.*?))```/#) else {
            throw Obstacle("docs/writing-plugins.md shows no plugin in Swift")
        }
        try write("Documented/MySink.swift", String(shown.1))
    }

    /// A source that uses each public type of PluginKit and ConfigJSON beside Foundation; it does not compile when one is ambiguous.
    private static func namesOfKit() throws -> String {
        let declaration = #/(?m)^(?:@\w+ )?public (?:indirect |final )*(?:struct|class|enum|protocol|typealias) (\w+)/#
        var names: [String] = []
        for module in ["PluginKit", "ConfigJSON"] {
            for file in TestFolder.files(below: "\(Project.root)/Sources/\(module)") {
                names += try Project.text(of: "\(Project.root)/Sources/\(module)/\(file)").matches(of: declaration).map { String($0.1) }
            }
        }
        guard names.contains("GatewayHost"), names.contains("ConfigObject") else { throw Obstacle("the names of PluginKit are not found") }
        let uses = names.sorted().map { "private typealias Used\($0) = \($0)" }
        return (["import ConfigJSON", "import Foundation", "import PluginKit", ""] + uses + [""]).joined(separator: "\n")
    }

    private static func run(_ words: [String], in folder: String) throws -> String {
        let ended = try ChildProcess.run(words, in: folder, environment: environment, patience: 280)
        guard ended.status == 0 else { throw Obstacle("\(words.joined(separator: " ")):\n\(ended.out)\n\(ended.err)") }
        return ended.out
    }
}
