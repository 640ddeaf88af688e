import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit

/// The `.json` beside an archived profile: all that was said about it, so that it can be sent again as it came.
enum ProfileMetadata {
    /// One payload's file.
    struct Entry {
        let file: String
        let id: String
        let size: Int
        let hash: String
    }

    /// The version of this format; it changes when a member changes its meaning.
    static let formatVersion = 1

    static func text(of profile: Profile, _ entries: [Entry]) -> String {
        let samples = entries.map { entry in
            """
            {"file":\(JSONValue.quoted(entry.file)),"id":\(JSONValue.quoted(entry.id)),"size":\(entry.size),"sha256":"\(entry.hash)"}
            """
        }
        let members: [(String, String)] = [
            ("version", "\(formatVersion)"),
            ("sequence", "\(profile.sequence)"),
            ("received", JSONValue.quoted(CivilTime(unixNanoseconds: profile.receivedAt).rfc3339)),
            ("received_ns", "\(profile.receivedAt)"),
            ("from_ns", "\(profile.from)"),
            ("until_ns", "\(profile.until)"),
            ("api", profile.api == .push ? "\"push\"" : "\"ingest\""),
            ("tenant", JSONValue.quoted(profile.tenant)),
            ("labels", object(profile.labels)),
            ("path", JSONValue.quoted(profile.path)),
            ("query", JSONValue.quoted(profile.query)),
            ("format", JSONValue.quoted(profile.format)),
            ("content_type", JSONValue.quoted(profile.contentType)),
            ("content_encoding", JSONValue.quoted(profile.contentEncoding)),
            ("headers", list(profile.headers)),
            ("samples", "[\(samples.joined(separator: ",\n    "))]"),
        ]
        return "{\n" + members.map { "  \(JSONValue.quoted($0)): \($1)" }.joined(separator: ",\n") + "\n}\n"
    }

    private static func object(_ labels: [(name: String, value: String)]) -> String {
        "{" + labels.map { "\(JSONValue.quoted($0.name)): \(JSONValue.quoted($0.value))" }.joined(separator: ", ") + "}"
    }

    /// Headers may repeat, so they are no object.
    private static func list(_ headers: [(name: String, value: String)]) -> String {
        "[" + headers.map { "[\(JSONValue.quoted($0.name)), \(JSONValue.quoted($0.value))]" }.joined(separator: ", ") + "]"
    }
}
