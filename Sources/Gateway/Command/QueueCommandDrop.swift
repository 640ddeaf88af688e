import ConfigJSON
import Glibc
import LinuxSystem
import SpoolStore
import Telemetry

/// `gateway queue drop`: removes profiles from one receiver's queue permanently.
enum QueueCommandDrop {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(
            words, options: QueuePlace.options.union(["--receiver", "--older-than"]), flags: ["--all", "--yes", "--json"])
        guard let receiver = arguments.value("--receiver") else { throw UsageError("queue drop needs --receiver NAME") }
        let choice = try choice(arguments)
        guard arguments.has("--yes") || isatty(STDIN_FILENO) == 1 else {
            throw UsageError("queue drop asks first, and there is no terminal to ask on: say --yes")
        }
        return try QueuePlace.with(arguments) { try drop(arguments, receiver, choice, $0) }
    }

    private static func choice(_ arguments: Arguments) throws(UsageError) -> SpoolDrop.Choice {
        let ways = [arguments.has("--all"), arguments.has("--older-than"), !arguments.words.isEmpty]
        guard ways.count(where: { $0 }) == 1 else {
            throw UsageError("queue drop needs one of --all, --older-than DURATION and SEQUENCE...")
        }
        if let text = arguments.value("--older-than") {
            guard let age = parseDuration(text) else {
                throw UsageError("--older-than needs a duration such as 1h30m, is \(quotedForPeople(text))")
            }
            return .before(MonotonicTime.unixNanoseconds.subtractingSaturated(age.inNanoseconds))
        }
        return arguments.has("--all") ? .all : .sequences(Set(try arguments.words.map(sequence)))
    }

    static func sequence(_ word: String) throws(UsageError) -> UInt64 {
        guard let number = UInt64(word), number > 0 else { throw UsageError("a sequence is a number, not \(quotedForPeople(word))") }
        return number
    }

    private static func drop(_ arguments: Arguments, _ receiver: String, _ choice: SpoolDrop.Choice, _ place: QueuePlace) throws -> Int32 {
        var drop: SpoolDrop
        do throws(SpoolRecovery.Refusal) {
            drop = try SpoolDrop(place.dataDirectory, receiver, choice)
        } catch { throw QueuePlace.Failure(lines: ["\(error); a queue is changed only while no gateway runs"]) }
        guard drop.unknown.isEmpty else {
            let list = drop.unknown.sorted().map { "\($0)" }.joined(separator: ", ")
            throw QueuePlace.Failure(lines: ["nothing is dropped: \(quotedForPeople(receiver)) does not wait for \(list)"])
        }
        let what = "\(counted(drop.profiles, "profile")) (\(readableSize(drop.bytes))) of receiver \(printable(receiver))"
        if drop.profiles > 0 {
            guard arguments.has("--yes") || confirms("drop \(what)? [y/N] ") else {
                printError("nothing is dropped")
                return 1
            }
            try drop.run()
        }
        print(arguments.has("--json") ? json(drop, receiver) : "dropped \(what)")
        return 0
    }

    private static func json(_ drop: borrowing SpoolDrop, _ receiver: String) -> String {
        """
        {"receiver":\(JSONValue.quoted(receiver)),"profiles":\(drop.profiles),"bytes":\(drop.bytes),\
        "segments_removed":\(drop.segmentsRemoved)}
        """
    }

    private static func confirms(_ question: String) -> Bool {
        let bytes = Array(question.utf8)
        _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
        return ["y", "yes"].contains(readLine()?.lowercased() ?? "")
    }
}
