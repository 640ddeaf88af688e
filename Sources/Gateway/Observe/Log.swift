import ConfigJSON
import Glibc
import LinuxSystem
import Synchronization

/// The gateway's log: one line an event, one `write` a line, on standard error.
///
/// Values from the network are escaped where they go out, so a line is always one line. Callable from any thread.
enum Log {
    enum Level: String, CaseIterable, Comparable, Sendable {
        case debug, info, warning, error

        static func < (a: Level, b: Level) -> Bool { a.rank < b.rank }
        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
    }

    enum Format: String, CaseIterable, Sendable { case logfmt, json }

    struct Settings: Sendable, Equatable {
        var level = Level.info
        var format = Format.logfmt
    }

    private static let settings = Mutex(Settings())

    static func configure(_ new: Settings) { settings.withLock { $0 = new } }

    static func debug(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.debug, message, fields) }
    static func info(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.info, message, fields) }
    static func warning(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.warning, message, fields) }
    static func error(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.error, message, fields) }

    static func write(_ level: Level, _ message: String, _ fields: KeyValuePairs<String, String>) {
        let settings = settings.withLock { $0 }
        guard level >= settings.level else { return }
        let time = CivilTime(unixNanoseconds: MonotonicTime.unixNanoseconds).rfc3339
        let members = [("ts", time), ("level", level.rawValue), ("msg", message)] + fields.map { ($0.key, $0.value) }
        let line =
            switch settings.format {
            case .logfmt: members.map { "\($0)=\(logfmtValue($1))" }.joined(separator: " ")
            case .json: "{" + members.map { "\(JSONValue.quoted($0)):\(JSONValue.quoted($1))" }.joined(separator: ",") + "}"
            }
        let bytes = Array((line + "\n").utf8)
        // A log that cannot be written must not stop the gateway.
        _ = unsafe Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }

    private static func logfmtValue(_ text: String) -> String {
        let isPlain = !text.isEmpty && text.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != 0x22 && $0 != 0x3D && $0 != 0x5C }
        return isPlain ? text : JSONValue.quoted(text)
    }
}

/// `text` on one line of a terminal: what could move the cursor or turn the text is escaped.
func printable(_ text: String) -> String {
    String(JSONValue.quoted(text).dropFirst().dropLast()).replacing("\\\"", with: "\"").replacing("\\\\", with: "\\")
}

/// `text` in quotes and escaped, for a message that a person reads; a long one is cut.
func quotedForPeople(_ text: String) -> String {
    let scalars = text.unicodeScalars
    return scalars.count <= 128 ? JSONValue.quoted(text) : JSONValue.quoted(String(scalars.prefix(128)) + "…")
}
