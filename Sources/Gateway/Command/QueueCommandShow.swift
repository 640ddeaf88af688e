import ConfigJSON
import LinuxSystem
import Profiles
import SpoolStore
import Telemetry

/// `gateway queue show`: lists waiting profiles, or shows one of them in detail.
enum QueueCommandShow {
    private static let defaultLimit = 50

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(
            words, options: QueuePlace.options.union(["--receiver", "--limit", "--output"]), flags: ["--json"])
        guard let word = arguments.words.first else { return try list(arguments) }
        guard arguments.words.count == 1 else { throw UsageError("queue show takes one sequence") }
        guard !arguments.has("--limit") else { throw UsageError("--limit is for a list") }
        let sequence = try QueueCommandDrop.sequence(word)
        return try QueuePlace.with(arguments) { try show(sequence, arguments, $0) }
    }

    // MARK: List

    private static func list(_ arguments: Arguments) throws(UsageError) -> Int32 {
        guard !arguments.has("--output") else { throw UsageError("--output needs a sequence") }
        let text = arguments.value("--limit") ?? "\(defaultLimit)"
        guard let limit = Int(text), limit >= 0 else { throw UsageError("--limit needs a number, is \(quotedForPeople(text))") }
        return try QueuePlace.with(arguments) { place in
            let reader = try ReadOnlySpool(place.dataDirectory)
            let (records, total, unreadable) = reader.waiting(for: arguments.value("--receiver"), limit: limit)
            if arguments.has("--json") { printJSON(records, reader.folder) } else { printText(records, reader.folder) }
            if records.count < total { printError("\(records.count) of \(total); --limit 0 shows all") }
            return QueuePlace.report(unreadable)
        }
    }

    private static func printText(_ records: [ListedRecord], _ folder: SpoolFolder) {
        for record in records {
            do throws(DamagedRecord) {
                guard let profile = try record.profile(folder) else { continue }
                print("\(QueuedText.line(of: profile)) for \(QueuedText.receivers(record))")
            } catch {
                let size = readableSize(Int(record.entry.length))
                print(
                    "\(readableTime(record.entry.time)) damaged: \(printable("\(error)")), \(size), \(record.entry.sequence)",
                    "for \(QueuedText.receivers(record))")
            }
        }
    }

    private static func printJSON(_ records: [ListedRecord], _ folder: SpoolFolder) {
        var before = "["
        for record in records {
            do throws(DamagedRecord) {
                guard let profile = try record.profile(folder) else { continue }
                print(before + QueuedText.json(record, profile), terminator: "")
            } catch { print(before + QueuedText.json(record, error), terminator: "") }
            before = ",\n "
        }
        print(before == "[" ? "[]" : "]")
    }

    // MARK: One profile

    private static func show(_ sequence: UInt64, _ arguments: Arguments, _ place: QueuePlace) throws -> Int32 {
        let reader = try ReadOnlySpool(place.dataDirectory)
        let (record, unreadable) = reader.record(sequence)
        guard let record, arguments.value("--receiver").map({ name in record.states.contains { $0.receiver == name } }) ?? true else {
            _ = QueuePlace.report(unreadable)
            throw QueuePlace.Failure(lines: ["no profile \(sequence) is on disk"])
        }
        do throws(DamagedRecord) {
            guard let profile = try record.profile(reader.folder) else {
                throw DamagedRecord(description: "it was let go just now")
            }
            let text = arguments.has("--json") ? [QueuedText.json(record, profile, all: true)] : QueuedText.lines(record, profile, place)
            for line in text { print(line) }
            return arguments.value("--output").map { write(profile, to: $0) } ?? 0
        } catch {
            print(arguments.has("--json") ? QueuedText.json(record, error) : QueuedText.lines(record, place).joined(separator: "\n"))
            printError("gateway: \(sequence): \(error)")
            return 1
        }
    }

    private static func write(_ profile: ReceivedProfile, to path: String) -> Int32 {
        do throws(SystemError) {
            for file in try PayloadFiles.write(profile, to: path) { printError("wrote \(printable(file))") }
            return 0
        } catch {
            printError("gateway: \(error)")
            return 1
        }
    }
}
