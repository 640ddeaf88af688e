import ConfigJSON
import Foundation
import PluginABI
import PluginKit
import PluginKitAsync

/// Does with each profile what its label `do` says, in a package that imports Foundation too.
final class OutsideSink: AsyncReceiver {
    static let name = "example.outside"
    static let version = "1.0.0"

    private let host: GatewayHost
    /// Whether this instance lets the tasks of an earlier one go on.
    private let isSecond: Bool

    init(config: ConfigObject, host: GatewayHost) throws {
        self.host = host
        isSecond = config.bool("second", default: false)
    }

    deinit { Task { await Gate.gone.open() } }

    func deliver(_ profile: Profile, attempt: Attempt) async throws -> Outcome {
        switch profile.label("do") {
        case "throw" where attempt.number == 1: throw CocoaError(.fileNoSuchFile)
        case "later" where attempt.progress == 0: return .retry("a moment", after: .milliseconds(1), progress: 7)
        case "reject": throw Outcome.rejected("not this one", httpStatus: 422)
        case "sleep":
            try await withTaskCancellationHandler {
                host.log(.info, "sleeps")
                try await Task.sleep(for: .seconds(3600))
            } onCancel: {
                host.log(.info, "cancelled")
            }
        case "ignore" where isSecond:
            await Gate.late.open()
            await Gate.gone.wait()
        case "ignore":
            host.log(.info, "ignores")
            await Gate.late.wait()
            // The profile is still there, and the gateway's log is not.
            host.log(.info, "late, with \(profile.byteCount) bytes of \(profile.labels.count) labels")
        default: break
        }
        return .delivered
    }
}

/// Holds tasks until it is opened, also cancelled ones.
private actor Gate {
    static let late = Gate()
    static let gone = Gate()

    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func wait() async { if !isOpen { await withCheckedContinuation { waiting.append($0) } } }

    func open() {
        isOpen = true
        for one in waiting { one.resume() }
        waiting = []
    }
}

/// The entry of the plugin.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { pluginTable(of: OutsideSink.self, hostSize) }
