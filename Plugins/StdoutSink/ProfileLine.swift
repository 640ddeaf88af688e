import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit

/// Formats a profile as one line; control characters are escaped, so that it stays one line whatever the sender sent.
enum ProfileLine {
    /// `2026-01-31T23:59:59.123Z checkout{env="prod"} pprof 9436 B 1 sample tenant="team-a" ingest 17…`
    static func text(_ profile: Profile) -> String {
        let labels = profile.labels.filter { $0.name != "__name__" }
        let set = labels.map { "\(plain($0.name))=\(JSONValue.quoted($0.value))" }.joined(separator: ",")
        let tenant = profile.tenant.isEmpty ? "" : " tenant=\(JSONValue.quoted(profile.tenant))"
        let count = profile.sampleCount
        return """
            \(time(profile)) \(plain(profile.label("__name__") ?? "")){\(set)} \(profile.format) \(profile.byteCount) B \
            \(count) sample\(count == 1 ? "" : "s")\(tenant) \(api(profile)) \(profile.sequence)
            """
    }

    /// The same information as one JSON object.
    static func json(_ profile: Profile) -> String {
        let labels = profile.labels.map { "\(JSONValue.quoted($0.name)):\(JSONValue.quoted($0.value))" }
        return """
            {"time":"\(time(profile))","sequence":\(profile.sequence),"api":"\(api(profile))",\
            "tenant":\(JSONValue.quoted(profile.tenant)),"labels":{\(labels.joined(separator: ","))},\
            "format":"\(profile.format)","content_type":\(JSONValue.quoted(profile.contentType)),\
            "from":\(profile.from),"until":\(profile.until),"bytes":\(profile.byteCount),"samples":\(profile.sampleCount)}
            """
    }

    private static func time(_ profile: Profile) -> String { CivilTime(unixNanoseconds: profile.receivedAt).rfc3339 }

    private static func api(_ profile: Profile) -> String { profile.api == .push ? "push" : "ingest" }

    /// A name as it is when it has only safe characters, else quoted.
    private static func plain(_ name: String) -> String {
        name.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != 0x22 && $0 != 0x5C } ? name : JSONValue.quoted(name)
    }
}
