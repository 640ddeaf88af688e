import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit
import ProfileArchive
import Profiles
import SpoolStore
import Telemetry

/// Formats a profile that waits on disk, as text or JSON.
enum QueuedText {
    // MARK: One line

    /// One line in the format of StdoutSink: `2026-01-31T23:59:59.123Z checkout{env="prod"} pprof 9436 B 1 sample tenant="team-a"
    /// ingest 17…`.
    static func line(of profile: ReceivedProfile) -> String {
        let view = unsafe PluginKit.Profile(view: profile.view)
        let tenant = view.tenant.isEmpty ? "" : " tenant=\(JSONValue.quoted(view.tenant))"
        let size = sizes(view).reduce(0, +)
        return withExtendedLifetime(profile) {
            """
            \(readableTime(view.receivedAt)) \(labels(view)) \(view.format) \(size) B \
            \(counted(view.sampleCount, "sample"))\(tenant) \(api(view)) \(view.sequence)
            """
        }
    }

    /// The receivers that still need the profile: `up (3 attempts), archive`.
    static func receivers(_ record: ListedRecord) -> String {
        record.states.filter { !$0.isSettled }.map { state in
            printable(state.receiver) + (state.attempt.map { " (\(counted($0.count, "attempt")))" } ?? "")
        }.joined(separator: ", ")
    }

    private static func labels(_ view: PluginKit.Profile) -> String {
        let set = view.labels.filter { $0.name != LabelSet.appName }.map { "\(plain($0.name))=\(JSONValue.quoted($0.value))" }
        return "\(plain(view.label(LabelSet.appName) ?? "")){\(set.joined(separator: ","))}"
    }

    /// A name as it is when it has only safe characters, else quoted.
    private static func plain(_ name: String) -> String {
        name.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != 0x22 && $0 != 0x5C } ? name : JSONValue.quoted(name)
    }

    private static func api(_ view: PluginKit.Profile) -> String { view.api == .push ? "push" : "ingest" }

    private static func sizes(_ view: PluginKit.Profile) -> [Int] {
        (0..<view.sampleCount).map { unsafe view.sample($0).bytes.count }
    }

    // MARK: All details

    static func lines(_ record: ListedRecord, _ profile: ReceivedProfile, _ place: QueuePlace) -> [String] {
        let view = unsafe PluginKit.Profile(view: profile.view)
        let told = [
            ("received", readableTime(view.receivedAt)), ("from", view.from == 0 ? "-" : readableTime(view.from)),
            ("until", view.until == 0 ? "-" : readableTime(view.until)), ("api", api(view)),
            ("tenant", JSONValue.quoted(view.tenant)), ("peer", view.peer.isEmpty ? "-" : printable(view.peer)),
            ("path", printable(view.path)), ("query", printable(view.query)),
            ("format", view.format), ("type", JSONValue.quoted(view.contentType)), ("encoding", JSONValue.quoted(view.contentEncoding)),
        ]
        let labels = view.labels.map { ("label", "\(plain($0.name))=\(JSONValue.quoted($0.value))") }
        let headers = view.headers.map { ("header", "\(plain($0.name)): \(JSONValue.quoted($0.value))") }
        let samples = samples(view).enumerated().map { index, sample in
            ("sample \(index)", "\(JSONValue.quoted(sample.id)) \(counted(sample.size, "byte")) sha256:\(sample.hash)")
        }
        return withExtendedLifetime(profile) { lines(record, place) + aligned(told + labels + headers + samples) }
    }

    /// The details in the index, which are known for a damaged record too.
    static func lines(_ record: ListedRecord, _ place: QueuePlace) -> [String] {
        let entry = record.entry
        let head = [
            ("sequence", "\(entry.sequence)"), ("accepted", readableTime(entry.time)),
            ("position", "\(printable(place.path(of: record.file))):\(entry.offset), \(counted(Int(entry.length), "byte"))"),
        ]
        return aligned(head + record.states.map { ("receiver", "\(printable($0.receiver)): \(text($0))") })
    }

    private static func text(_ state: ListedRecord.State) -> String {
        guard !state.isSettled else { return "settled" }
        guard let attempt = state.attempt else { return "waits, no attempt" }
        let next = attempt.due > MonotonicTime.unixNanoseconds ? ", next \(readableTime(attempt.due))" : ""
        return "waits, \(counted(attempt.count, "attempt"))\(next)" + (attempt.progress == 0 ? "" : ", progress \(attempt.progress)")
    }

    private static func aligned(_ fields: [(String, String)]) -> [String] {
        fields.map { name, value in name + String(repeating: " ", count: max(1, 11 - name.count)) + value }
    }

    private static func samples(_ view: PluginKit.Profile) -> [(id: String, size: Int, hash: String)] {
        (0..<view.sampleCount).map { index in
            let sample = view.sample(index)
            return unsafe (sample.id, sample.bytes.count, SHA256.hex(of: sample.bytes))
        }
    }

    // MARK: JSON

    /// - Parameter all: whether to include query, headers and samples.
    static func json(_ record: ListedRecord, _ profile: ReceivedProfile, all: Bool = false) -> String {
        let view = unsafe PluginKit.Profile(view: profile.view)
        var members = [
            ("received", JSONValue.quoted(readableTime(view.receivedAt))), ("api", JSONValue.quoted(api(view))),
            ("tenant", JSONValue.quoted(view.tenant)), ("format", JSONValue.quoted(view.format)),
            ("labels", object(view.labels)), ("payload_bytes", "\(sizes(view).reduce(0, +))"),
        ]
        if all { members += more(view) }
        return withExtendedLifetime(profile) { json(record, members) }
    }

    static func json(_ record: ListedRecord, _ damage: DamagedRecord) -> String {
        json(record, [("damage", JSONValue.quoted("\(damage)"))])
    }

    private static func json(_ record: ListedRecord, _ more: [(String, String)]) -> String {
        let entry = record.entry
        let head = [
            ("sequence", "\(entry.sequence)"), ("accepted", JSONValue.quoted(readableTime(entry.time))), ("bytes", "\(entry.length)"),
            ("file", JSONValue.quoted(record.file)), ("offset", "\(entry.offset)"),
            ("receivers", "[\(record.states.map(json).joined(separator: ","))]"),
        ]
        return "{" + (head + more).map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    }

    private static func json(_ state: ListedRecord.State) -> String {
        let attempt = state.attempt ?? SpoolAttempt()
        let due = attempt.due > MonotonicTime.unixNanoseconds ? "\"\(readableTime(attempt.due))\"" : "null"
        return """
            {"receiver":\(JSONValue.quoted(state.receiver)),"settled":\(state.isSettled),"attempts":\(attempt.count),\
            "next_retry":\(due),"progress":\(attempt.progress)}
            """
    }

    private static func more(_ view: PluginKit.Profile) -> [(String, String)] {
        let samples = samples(view).map { "{\"id\":\(JSONValue.quoted($0.id)),\"bytes\":\($0.size),\"sha256\":\"\($0.hash)\"}" }
        let headers = view.headers.map { "[\(JSONValue.quoted($0.name)),\(JSONValue.quoted($0.value))]" }
        return [
            ("from_ns", "\(view.from)"), ("until_ns", "\(view.until)"), ("peer", JSONValue.quoted(view.peer)),
            ("path", JSONValue.quoted(view.path)),
            ("query", JSONValue.quoted(view.query)), ("content_type", JSONValue.quoted(view.contentType)),
            ("content_encoding", JSONValue.quoted(view.contentEncoding)), ("headers", "[\(headers.joined(separator: ","))]"),
            ("samples", "[\(samples.joined(separator: ","))]"),
        ]
    }

    private static func object(_ labels: [(name: String, value: String)]) -> String {
        "{" + labels.map { "\(JSONValue.quoted($0.name)):\(JSONValue.quoted($0.value))" }.joined(separator: ",") + "}"
    }
}
