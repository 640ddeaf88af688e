import ConfigJSON
import Glibc
package import LinuxSystem
import Synchronization

/// The gateway's log: one line for each event, on standard error.
///
/// Values from the network are escaped on output, so an event is always one line. Callable from any thread; never waits for the
/// reader of standard error, because a ``LogWriter`` writes the lines.
package enum Log {
    package enum Level: String, CaseIterable, Comparable, Sendable {
        case debug, info, warning, error

        package static func < (a: Level, b: Level) -> Bool { a.rank < b.rank }
        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
    }

    package enum Format: String, CaseIterable, Sendable { case logfmt, json }

    package struct Settings: Sendable, Equatable {
        package var level = Level.info
        package var format = Format.logfmt

        package init(level: Level = Level.info, format: Format = Format.logfmt) {
            (self.level, self.format) = (level, format)
        }
    }

    private static let settings = Mutex(Settings())
    private static let writer = LogWriter(STDERR_FILENO) { count in
        let settings = settings.withLock { $0 }
        return line(
            max(.warning, settings.level), "log lines were dropped, for standard error did not take them", ["count": "\(count)"],
            settings.format)
    }

    package static func configure(_ new: Settings) { settings.withLock { $0 = new } }

    package static func debug(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.debug, message, fields) }
    package static func info(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.info, message, fields) }
    package static func warning(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.warning, message, fields) }
    package static func error(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.error, message, fields) }

    package static func write(_ level: Level, _ message: String, _ fields: KeyValuePairs<String, String>) {
        let settings = settings.withLock { $0 }
        guard level >= settings.level else { return }
        writer.append(line(level, message, fields, settings.format))
    }

    /// Writes a line unchanged, for output before the log has been configured.
    package static func writeUnformatted(_ line: String) { writer.append(Array((line + "\n").utf8)) }

    /// How many lines were dropped since the start.
    package static var droppedCount: Int { writer.droppedCount }

    /// Waits until standard error has taken all lines, by default one second at most; the last call before the process ends.
    package static func flush(until deadline: MonotonicTime = .now + .seconds(1)) { writer.flush(until: deadline) }

    private static func line(
        _ level: Level, _ message: String, _ fields: KeyValuePairs<String, String>, _ format: Format
    ) -> [UInt8] {
        let time = CivilTime(unixNanoseconds: MonotonicTime.unixNanoseconds).rfc3339
        let members = [("ts", time), ("level", level.rawValue), ("msg", message)] + fields.map { ($0.key, $0.value) }
        let line =
            switch format {
            case .logfmt: members.map { "\($0)=\(logfmtValue($1))" }.joined(separator: " ")
            case .json: "{" + members.map { "\(JSONValue.quoted($0)):\(JSONValue.quoted($1))" }.joined(separator: ",") + "}"
            }
        return Array((line + "\n").utf8)
    }

    private static func logfmtValue(_ text: String) -> String {
        let isPlain = !text.isEmpty && text.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != 0x22 && $0 != 0x3D && $0 != 0x5C }
        return isPlain ? text : JSONValue.quoted(text)
    }
}
