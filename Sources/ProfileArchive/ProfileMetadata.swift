import ConfigJSON
import LinuxSystem
import PluginABI
import PluginKit

/// The `.json` beside an archived profile: everything needed to send the profile again as it was received.
public enum ProfileMetadata {
    /// An additional member, for archives with a special purpose.
    public struct Note: Sendable {
        let name: String
        let json: String

        /// Makes a member with a name.
        ///
        /// - Parameter json: the value, as strict JSON.
        public init(_ name: String, json: String) { (self.name, self.json) = (name, json) }
    }

    /// The description of one payload's file.
    struct Payload {
        let file: String
        let id: String
        let size: Int
        let hash: String
    }

    /// The version of this format; it changes when the meaning of a member changes.
    static let formatVersion = 1

    static func text(of profile: Profile, _ payloads: [Payload], _ note: Note?) -> String {
        let samples = payloads.map { payload in
            """
            {"file":\(JSONValue.quoted(payload.file)),"id":\(JSONValue.quoted(payload.id)),"size":\(payload.size),"sha256":"\(payload.hash)"}
            """
        }
        var members: [(String, String)] = [
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
        if let note { members.append((note.name, note.json)) }
        return "{\n" + members.map { "  \(JSONValue.quoted($0)): \($1)" }.joined(separator: ",\n") + "\n}\n"
    }

    private static func object(_ labels: [(name: String, value: String)]) -> String {
        "{" + labels.map { "\(JSONValue.quoted($0.name)): \(JSONValue.quoted($0.value))" }.joined(separator: ", ") + "}"
    }

    /// An array, because headers may repeat.
    private static func list(_ headers: [(name: String, value: String)]) -> String {
        "[" + headers.map { "[\(JSONValue.quoted($0.name)), \(JSONValue.quoted($0.value))]" }.joined(separator: ", ") + "]"
    }
}
