import ConfigJSON
import Glibc
import HTTPServer
import LinuxSystem

/// A config file as read: its values, its problems and its warnings.
struct ConfigFile {
    let path: String
    var config: Config
    /// Errors that must be repaired before the gateway starts.
    var problems: [Problem]
    /// Problems that do not keep the gateway from starting, but are probably mistakes.
    var warnings: [Problem]
    /// The problems that lie in the environment: variables that are not set, and malformed references to variables.
    private(set) var unresolved: [Problem] = []

    /// The largest config file that is read.
    static let maximumSize = 16 << 20

    /// Reads a file; a failure to open it is a problem too.
    static func read(_ path: String) -> ConfigFile {
        do throws(SystemError) {
            let file = try FileDescriptor.open(path, O_RDONLY)
            return ConfigFile(path: path, text: try file.readAll(limit: maximumSize), space: DiskSpace.total)
        } catch {
            let problem = Problem(position: nil, path: "", message: "cannot read the config: \(error)")
            return ConfigFile(path: path, config: Config(), problems: [problem], warnings: [])
        }
    }

    /// Adds problems, except at paths that are problems already because a reference there could not be replaced.
    mutating func add(_ more: [Problem]) {
        problems += more.filter { problem in !unresolved.contains { $0.path == problem.path } }
    }

    /// The problems of a config that another process runs, whose environment may have variables that this process lacks.
    ///
    /// - Parameter isNeeded: whether this process needs the member at a path.
    func problems(whereNeeded isNeeded: (_ path: String) -> Bool) -> [Problem] {
        problems.filter { problem in isNeeded(problem.path) || !unresolved.contains(problem) }
    }

    /// One line for each problem and warning: `gateway.json:14:9: receivers.staging.queue: unknown`.
    var lines: [String] {
        problems.map { $0.line(in: path) } + warnings.map { $0.line(in: path, "warning: ") }
    }
}

extension Problem {
    /// The problem as a person reads it: file, line, column, path and message.
    func line(in file: String, _ kind: String = "") -> String {
        "\(position.map { "\(file):\($0.line):\($0.column)" } ?? file): \(kind)\(self)"
    }
}

extension ConfigFile {
    /// - Parameters:
    ///   - environment: the value of a variable; nil when it is not set.
    ///   - space: the size in bytes of the file system that a path is on; nil when unknown.
    init(
        path: String, text: [UInt8], environment: (String) -> [UInt8]? = environmentVariable, space: (_ path: String) -> Int? = { _ in nil }
    ) {
        let (problems, unresolved, warnings) = (Problems(), Problems(), Problems())
        var config = Config()
        if let written = JSONParser.parse(text, dialect: .relaxed, problems: problems) {
            let value = written.expanded(environment, problems: unresolved)
            config = Config(ConfigObject(value, path: "", problems: problems, warnings: warnings))
            if let warning = config.diskWarning(space) { warnings.add("data_dir", warning, at: value.place(of: "data_dir")) }
        }
        self.init(path: path, config: config, problems: unresolved.list, warnings: warnings.list, unresolved: unresolved.list)
        add(problems.list)
        self.problems.sortByPlace()
    }
}

extension [Problem] {
    /// Sorts by position in the text; problems without a position come last.
    mutating func sortByPlace() {
        sort { ($0.position?.line ?? .max, $0.position?.column ?? 0) < ($1.position?.line ?? .max, $1.position?.column ?? 0) }
    }
}

extension Config {
    /// The problems with the files that TLS and authentication need.
    var fileProblems: [Problem] {
        var problems = FileProblems()
        for http in listeners.map(\.http) + [admin?.http].compactMap(\.self) {
            _ = problems.collect(all: { () throws(FileProblems) in try Listener.Security(http) })
        }
        return problems.list
    }
}
