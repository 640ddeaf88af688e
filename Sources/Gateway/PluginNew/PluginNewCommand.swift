import Glibc
import LinuxSystem
import Telemetry

/// `gateway plugin new`: writes the project of a new plugin.
enum PluginNewCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: ["--language", "--in", "--gateway"])
        guard arguments.words.count == 1, let word = arguments.words.first else { throw UsageError("plugin new needs one NAME") }
        guard let name = PluginProjectName(word) else {
            throw UsageError("\(quotedForPeople(word)) cannot be a plugin's name: \(PluginProjectName.rule)")
        }
        let wanted = arguments.value("--language")
        guard let language = PluginLanguage.all.first(where: { $0.name == wanted }) else {
            let problem = wanted.map { "there are no templates for \(quotedForPeople($0))" } ?? "plugin new needs --language"
            throw UsageError("\(problem); the languages are \(PluginLanguage.names)")
        }
        let package = try package(arguments.value("--gateway"), language)
        let project = PluginProject(name, language, version: RunningGateway.version, package: package)
        return write(project, to: name, in: arguments.value("--in") ?? ".")
    }

    private static func write(_ project: PluginProject, to name: PluginProjectName, in parent: String) -> Int32 {
        let path = parent == "." ? name.name : "\(parent)/\(name.name)"
        do throws(PluginProject.Obstacle) {
            try project.write(name.name, in: parent)
        } catch {
            printError("gateway: \(quotedForPeople(path)) is not written: \(error.reason)")
            return 1
        }
        let folder = printable(path)
        let steps = ["cd \(folder)"] + (project.hasMakefile ? ["make test"] : [])
        print(
            """
            \(folder) holds the project of a new plugin, which works as it is:

            \(steps.map { "  \($0)" }.joined(separator: "\n"))

            \(project.source) is the plugin, and README.md says how to build, test and run it.
            """)
        return 0
    }

    /// The Swift expression for the package that a plugin in Swift depends on; nil for the other languages.
    private static func package(_ given: String?, _ language: PluginLanguage) throws(UsageError) -> String? {
        guard language.needsPackage else {
            guard given == nil else { throw UsageError("--gateway is for projects that depend on the gateway's package: those in swift") }
            return nil
        }
        guard let place = given ?? GatewayPackage.folder(above: ProcessStart.executableFolder) else {
            throw UsageError("the package that this program was built of is not here; --gateway PATH|URL names it")
        }
        guard let dependency = GatewayPackage.dependency(on: place) else {
            throw UsageError("\(quotedForPeople(place)) has no Package.swift of profile-gateway")
        }
        return dependency
    }
}
