import ConfigJSON
import Glibc
import PluginABI
import PluginKit

/// Appends one line per profile to a file.
final class @TYPE@: SynchronousReceiver {
    static let name = "@NAME@"
    static let version = "0.1.0"

    private let path: String

    /// Reads the config. Members that are not read here are reported as unknown.
    init(config: ConfigObject, host: GatewayHost) throws {
        path = config.string("path") ?? ""
        if path.isEmpty { config.refuse("path", "is required: the file to append to") }
    }

    /// A thrown error means a retry, with its text as the reason.
    func deliver(_ profile: Profile, attempt: Attempt) throws -> Outcome {
        // Senders choose names and values, and a quoted text stays on its line.
        let labels = profile.labels.map { "\(JSONValue.quoted($0.name)):\(JSONValue.quoted($0.value))" }.joined(separator: ",")
        try append("{\"sequence\":\(profile.sequence),\"bytes\":\(profile.byteCount),\"labels\":{\(labels)}}\n")
        return .delivered
    }

    private func append(_ line: String) throws {
        guard let file = fopen(path, "ae") else { throw Failure(call: "open") }
        let isTaken = fputs(line, file) >= 0
        // The line is written now, at the latest.
        guard fclose(file) == 0, isTaken else { throw Failure(call: "write") }
    }

    private struct Failure: Error, CustomStringConvertible {
        let description: String

        init(call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
    }
}

/// The entry of the plugin, which the gateway calls.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { pluginTable(of: @TYPE@.self, hostSize) }
