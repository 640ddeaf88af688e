import Glibc
import LinuxSystem
import Receivers
import SpoolStore
import Telemetry

/// `gateway queue`: shows, verifies and drops profiles that wait on disk.
enum QueueCommand {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        guard let word = words.first else { throw UsageError("queue needs list, verify, show or drop") }
        let rest = Array(words.dropFirst())
        switch word {
        case "list": return try QueueCommandList.run(rest)
        case "verify": return try QueueCommandVerify.run(rest)
        case "show": return try QueueCommandShow.run(rest)
        case "drop": return try QueueCommandDrop.run(rest)
        default: throw UsageError("queue has no \(quotedForPeople(word)): list, verify, show or drop")
        }
    }
}

/// The spool that a queue command works on: from `--data-dir`, or from a config.
struct QueuePlace {
    /// The options that select it.
    static let options: Set<String> = ["--config", "--data-dir"]

    let dataDirectory: String
    /// Receivers of the config whose queues are on disk; nil without a config.
    let onDisk: [String]?
    private let names: Set<String>

    /// Why the place cannot be used.
    struct Failure: Error, CustomStringConvertible {
        let lines: [String]
        var description: String { lines.joined(separator: "\n") }
    }

    init(_ arguments: Arguments) throws {
        if let directory = arguments.value("--data-dir") {
            guard !arguments.has("--config") else { throw UsageError("--config and --data-dir exclude each other") }
            guard unsafe access(directory, F_OK) == 0 else { throw SystemError("open \(directory)") }
            (dataDirectory, onDisk, names) = (directory, nil, [])
            return
        }
        let file = ConfigFile.read(arguments.value("--config") ?? CheckCommand.defaultConfig)
        let problems = file.problems { $0 == "data_dir" || $0.contains(".queue.") }
        guard problems.isEmpty else { throw Failure(lines: problems.map { $0.line(in: file.path) }) }
        guard let directory = file.config.dataDirectory else {
            throw Failure(lines: ["\(file.path): there is no data_dir, so no queue is on disk"])
        }
        dataDirectory = directory
        names = Set(file.config.receivers.map(\.name))
        onDisk = file.config.receivers.filter { $0.queue.storage == .disk }.map(\.name)
    }

    /// Whether the config has a receiver; nil without a config.
    func isConfigured(_ receiver: String) -> Bool? { onDisk == nil ? nil : names.contains(receiver) }

    func path(of file: String) -> String { "\(dataDirectory)/spool/\(file)" }

    /// Prints which segments cannot be read, and that they are not counted.
    ///
    /// - Returns: the exit status, which is 1 when there are any.
    static func report(_ unreadable: [UnreadableSegment]) -> Int32 {
        for error in unreadable { printError("gateway: \(printable(error.name)): it cannot be read, and is not counted: \(error)") }
        return unreadable.isEmpty ? 0 : 1
    }

    /// Runs a command on the spool, and prints the error if it fails.
    static func with(_ arguments: Arguments, _ body: (QueuePlace) throws -> Int32) throws(UsageError) -> Int32 {
        do {
            return try body(QueuePlace(arguments))
        } catch let error as UsageError {
            throw error
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }
}
