import ConfigJSON
import Glibc
import LinuxSystem
import ProfileReader
import Telemetry

/// `gateway profile`: shows what is in the file of a profile.
enum ProfileCommand {
    private static let options: Set<String> = ["--format", "--sample-type"]
    private static let defaultLimit = 20

    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        guard let word = words.first else { throw UsageError("profile needs top, folded or graph") }
        let rest = Array(words.dropFirst())
        switch word {
        case "top":
            let arguments = try Arguments(rest, options: options.union(["--limit"]), flags: ["--json"])
            let text = arguments.value("--limit") ?? "\(defaultLimit)"
            guard let limit = Int(text), limit >= 0 else { throw UsageError("--limit needs a number, is \(quotedForPeople(text))") }
            let shown = limit == 0 ? Int.max : limit
            return try show(arguments) { arguments.has("--json") ? json($0, $1, shown) : table($0, $1, shown) }
        case "folded":
            return try show(Arguments(rest, options: options)) { String(decoding: try $0.folded(sampleType: $1), as: UTF8.self) }
        case "graph":
            return try show(Arguments(rest, options: options)) { String(decoding: $0.flameGraph(sampleType: $1), as: UTF8.self) + "\n" }
        default: throw UsageError("profile has no \(quotedForPeople(word)): top, folded or graph")
        }
    }

    // MARK: Reading

    /// Reads the file that is named, and prints what `body` makes of the profile and the sample type that is asked for.
    private static func show(_ arguments: Arguments, _ body: (ReadProfile, Int) throws -> String) throws(UsageError) -> Int32 {
        guard let file = arguments.words.first, arguments.words.count == 1 else { throw UsageError("profile takes one file") }
        let name = arguments.value("--format")
        if let name, ReadProfile.Format(rawValue: name) == nil {
            throw UsageError("--format takes \(formats), is \(quotedForPeople(name))")
        }
        do {
            let bytes = try FileDescriptor.open(file, O_RDONLY).readAll(limit: 1 << 30)
            let guessed = name ?? SendCommand.guessFormat(bytes, file)
            guard let format = ReadProfile.Format(rawValue: guessed) else {
                throw Failure(description: "\(guessed) cannot be read: only \(formats)")
            }
            let profile = try ReadProfile(reading: bytes, format: format)
            print(try body(profile, try sampleType(arguments.value("--sample-type"), of: profile)), terminator: "")
            return 0
        } catch {
            printError("gateway: \(printable(file)): \(printable("\(error)"))")
            return 1
        }
    }

    private static var formats: String { ReadProfile.Format.allCases.map(\.rawValue).joined(separator: ", ") }

    private struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private static func sampleType(_ name: String?, of profile: ReadProfile) throws(Failure) -> Int {
        guard let name else { return profile.defaultSampleType }
        guard let index = profile.sampleTypes.firstIndex(where: { $0.name == name }) else {
            let known = profile.sampleTypes.map(\.name).joined(separator: ", ")
            throw Failure(description: "there is no sample type \(quotedForPeople(name)): \(known)")
        }
        return index
    }

    // MARK: Functions

    private static func table(_ profile: ReadProfile, _ type: Int, _ limit: Int) -> String {
        let (sampleType, sum) = (profile.sampleTypes[type], profile.total(sampleType: type))
        var table = AlignedTable(["OWN", "%", "TOTAL", "%", "FUNCTION"])
        for function in profile.topFunctions(sampleType: type, limit: limit) {
            table.add([
                "\(function.own)", percent(function.own, of: sum), "\(function.total)", percent(function.total, of: sum), function.name,
            ])
        }
        let head = "\(printable(sampleType.name)), \(sum) \(printable(sampleType.unit)) in all"
        return ([head] + table.lines).joined(separator: "\n") + "\n"
    }

    /// With one digit after the point.
    private static func percent(_ part: Int64, of whole: Int64) -> String {
        let tenths = whole == 0 ? 0 : (Double(part) / Double(whole) * 1000).rounded()
        let digits = Int(tenths.magnitude)
        return "\(tenths < 0 ? "-" : "")\(digits / 10).\(digits % 10)"
    }

    private static func json(_ profile: ReadProfile, _ type: Int, _ limit: Int) -> String {
        let types = profile.sampleTypes.map { "{\"name\":\(JSONValue.quoted($0.name)),\"unit\":\(JSONValue.quoted($0.unit))}" }
        let functions = profile.topFunctions(sampleType: type, limit: limit).map {
            "{\"name\":\(JSONValue.quoted($0.name)),\"own\":\($0.own),\"total\":\($0.total)}"
        }
        return """
            {"sample_types":[\(types.joined(separator: ","))],"sample_type":\(type),"total":\(profile.total(sampleType: type)),\
            "functions":[\(functions.joined(separator: ",\n "))]}

            """
    }
}
