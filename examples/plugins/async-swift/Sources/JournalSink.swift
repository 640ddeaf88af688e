import ConfigJSON
import PluginABI
import PluginKit
import PluginKitAsync

/// Appends one line per profile to a file, and syncs many lines at once.
///
/// Each profile waits in a task of its own until its line is on the disk.
final class JournalSink: AsyncReceiver {
    static let name = "example.journal"
    static let version = "1.0.0"

    private let journal: Journal

    init(config: ConfigObject, host: GatewayHost) throws {
        let path = config.string("path") ?? ""
        if path.isEmpty { config.refuse("path", "is required: the file to append to") }
        journal = Journal(
            path: path, batch: config.integer("batch", in: 1...1000, default: 16),
            patience: config.duration("max_wait", default: .milliseconds(200)))
    }

    func deliver(_ profile: Profile, attempt: Attempt) async throws -> Outcome {
        let labels = profile.labels.map { "\(JSONValue.quoted($0.name)):\(JSONValue.quoted($0.value))" }.joined(separator: ",")
        try await journal.append("{\"sequence\":\(profile.sequence),\"bytes\":\(profile.byteCount),\"labels\":{\(labels)}}\n")
        return .delivered
    }

    func drain() async { await journal.drain() }
}

/// The entry of the plugin, which the gateway calls.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { pluginTable(of: JournalSink.self, hostSize) }
