import ConfigJSON
import LinuxSystem
import SpoolStore
import Telemetry

/// `gateway queue verify`: reads all records on disk and reports damage.
enum QueueCommandVerify {
    static func run(_ words: [String]) throws(UsageError) -> Int32 {
        let arguments = try Arguments(words, options: QueuePlace.options, flags: ["--json"])
        try arguments.refuseWords()
        return try QueuePlace.with(arguments) { place in
            arguments.has("--json") ? try json(place) : try text(place)
        }
    }

    private static func text(_ place: QueuePlace) throws -> Int32 {
        var check = try SpoolCheck(place.dataDirectory)
        check.run { print(line($0, place)) }
        let damages = check.damages == 0 ? "no damage" : counted(check.damages, "damage")
        let found = "\(counted(check.records, "record")) of \(readableSize(check.bytes)) in \(counted(check.segments, "segment"))"
        print("\(found): \(damages)\(check.isRunning ? ", while a gateway runs" : "")")
        return check.damages == 0 ? 0 : 1
    }

    private static func line(_ damage: SpoolDamage, _ place: QueuePlace) -> String {
        var details: [String] = []
        if damage.size > 0 { details.append(counted(damage.size, "byte")) }
        if damage.sequence > 0 { details.append("sequence \(damage.sequence)") }
        if !damage.receivers.isEmpty { details.append("for " + damage.receivers.map(printable).joined(separator: ", ")) }
        if damage.isSettled { details.append("settled") }
        let rest = details.isEmpty ? "" : " (\(details.joined(separator: ", ")))"
        return "\(printable(place.path(of: damage.file))):\(damage.offset): \(printable(damage.what))\(rest)"
    }

    private static func json(_ place: QueuePlace) throws -> Int32 {
        var check = try SpoolCheck(place.dataDirectory)
        var damages: [String] = []
        check.run { damages.append(object($0, place)) }
        print(
            """
            {"segments":\(check.segments),"records":\(check.records),"bytes":\(check.bytes),"running":\(check.isRunning),\
            "damages":[\(damages.joined(separator: ",\n "))]}
            """)
        return damages.isEmpty ? 0 : 1
    }

    private static func object(_ damage: SpoolDamage, _ place: QueuePlace) -> String {
        """
        {"file":\(JSONValue.quoted(place.path(of: damage.file))),"offset":\(damage.offset),"size":\(damage.size),\
        "what":\(JSONValue.quoted(damage.what)),"sequence":\(damage.sequence == 0 ? "null" : "\(damage.sequence)"),\
        "receivers":[\(damage.receivers.map(JSONValue.quoted).joined(separator: ","))],"settled":\(damage.isSettled)}
        """
    }
}
