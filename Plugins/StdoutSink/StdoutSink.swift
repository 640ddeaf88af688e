import ConfigJSON
import Glibc
import LinuxSystem
public import PluginABI
import PluginKit

/// Writes one line per profile to standard output: its metadata, not its bytes.
final class StdoutSink: SynchronousReceiver {
    static let name = "gateway.stdout"
    static let version = "0.2.0"

    private enum Format: String, CaseIterable { case text, json }

    private let format: Format
    private let output = StandardOutput()

    init(config: ConfigObject, host: GatewayHost) throws {
        format = config.choice("format", default: .text)
        try output.open()
    }

    func deliver(_ profile: Profile, attempt: Attempt) throws -> Outcome {
        let line = format == .text ? ProfileLine.text(profile) : ProfileLine.json(profile)
        return try output.write(line + "\n") ? .delivered : .aborted
    }

    func abort() { output.abort() }
}

/// Returns the plugin's table of C functions; NULL when `hostSize`, the byte size of the gateway's `gw_host`, is that of a gateway
/// older than v1.0.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: StdoutSink.self, hostSize) }
