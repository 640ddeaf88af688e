import ConfigJSON
import Glibc
import LinuxSystem
public import PluginABI
import PluginKit
import Synchronization

/// Sends every profile to other Pyroscope servers: the counterpart of Alloy's `pyroscope.write`.
///
/// A profile is delivered when each endpoint has answered 2xx and the response was read. The requests run on the gateway's delivery
/// thread, or on threads of the instance's own: where the config asks for several, or the gateway cannot watch descriptors.
final class HTTPWriter: Receiver, Probing {
    static let name = "pyroscope.write"
    static let version = "0.2.0"

    private struct State {
        /// Nil before the first delivery or probe, so that `gateway check` opens nothing.
        var runner: (any EngineRunner)?
        var isAborted = false
    }

    private let config: WriterConfig
    private let host: GatewayHost
    private let state = Mutex(State())

    init(config: ConfigObject, host: GatewayHost) throws {
        self.config = WriterConfig(config)
        self.host = host
    }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) {
        let runner: (any EngineRunner)?
        do throws(SystemError) { runner = try begun() } catch { return delivery.finish(.retry("\(error)")) }
        if let runner { runner.start(profile, delivery) } else { delivery.finish(.aborted) }
    }

    func flush(_ flush: consuming Delivery) {
        // Before the first delivery there is nothing to flush.
        if let runner = state.withLock(\.runner) { runner.flush(SharedDelivery(flush)) } else { flush.finish(.delivered) }
    }

    func probe(_ probe: consuming Delivery) {
        let delivery = SharedDelivery(probe)
        do throws(SystemError) {
            if let runner = try begun() { runner.probe(delivery) } else { delivery.finish(.aborted) }
        } catch { delivery.finish(.retry("\(error)")) }
    }

    func abort() {
        let runner = state.withLock { state in
            state.isAborted = true
            return state.runner
        }
        runner?.abort()
    }

    func close() { state.withLock { $0.runner.take() }?.end() }

    /// The runner, which is made when it is first needed; nil after an abort, which may come while a delivery is on its way here.
    private func begun() throws(SystemError) -> (any EngineRunner)? {
        try state.withLock { (state) throws(SystemError) -> (any EngineRunner)? in
            if state.isAborted { return nil }
            if state.runner == nil { state.runner = try makeRunner() }
            return state.runner
        }
    }

    private func makeRunner() throws(SystemError) -> any EngineRunner {
        var config = config
        config.loops = DescriptorShare.loops(config, host)
        if config.loops < self.config.loops {
            host.log(.warning, "loops: there are not enough file descriptors for \(self.config.loops), so there are \(config.loops)")
        }
        if config.loops == 1, let loop = host.loop { return try EngineLoop(config, host, loop) }
        return try EngineThreads(config, host)
    }
}

/// The runner of an instance's transfers; all calls but `abort` come from the gateway's delivery thread.
protocol EngineRunner: AnyObject, Sendable {
    func start(_ profile: Profile, _ delivery: consuming Delivery)
    /// Tries every endpoint without a profile, then finishes `probe`.
    func probe(_ probe: SharedDelivery)
    /// Finishes the flush once everything that was started before it has ended.
    func flush(_ flush: SharedDelivery)
    /// Aborts all transfers soon; callable from any thread.
    func abort()
    /// Ends when no transfer is open.
    func end()
}

/// Returns the plugin's table of C functions; NULL when `hostSize`, the byte size of the gateway's `gw_host`, is that of a gateway
/// older than v1.0.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: HTTPWriter.self, hostSize) }
