import CCurl
import ConfigJSON
import Glibc
import LinuxSystem
public import PluginABI
import PluginKit
import Synchronization

/// Sends every profile to other Pyroscope servers: the counterpart of Alloy's `pyroscope.write`.
///
/// A profile is delivered when each endpoint has answered 2xx and the response was read. All requests of one receiver run on one
/// thread of its own.
final class HTTPWriter: Receiver {
    static let name = "pyroscope.write"
    static let version = "0.2.0"

    private struct Inbox {
        var work: [Work] = []
        var isAborting = false
        var isClosing = false
    }

    private enum Work {
        case dispatch(Dispatch)
        case flush(SharedDelivery)
    }

    private let config: WriterConfig
    private let host: Host
    private let wakeup: Wakeup
    private let inbox = Mutex(Inbox())
    private let thread = Mutex<Thread?>(nil)

    // libcurl's global initialization, once for the process and before any handle is made.
    private static let isCurlReady = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK

    init(config: ConfigObject, host: Host) throws {
        guard Self.isCurlReady else { throw SystemError("curl_global_init", code: ENOMEM) }
        self.config = WriterConfig(config)
        self.host = host
        wakeup = try Wakeup()
    }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) {
        let dispatch = Dispatch(profile, delivery)
        do throws(SystemError) {
            try startThread()
        } catch { return dispatch.finish(.retry("\(error)")) }
        add(.dispatch(dispatch))
    }

    func flush(_ flush: consuming Delivery) {
        let flush = SharedDelivery(flush)
        // Without a thread nothing was delivered yet, so there is nothing to flush.
        if thread.withLock({ $0 == nil }) { flush.finish(.delivered) } else { add(.flush(flush)) }
    }

    private func add(_ work: Work) {
        let wasEmpty = inbox.withLock { inbox in
            inbox.work.append(work)
            return inbox.work.count == 1
        }
        if wasEmpty { wakeup.signal() }
    }

    func abort() {
        inbox.withLock { $0.isAborting = true }
        wakeup.signal()
    }

    func close() {
        inbox.withLock { $0.isClosing = true }
        wakeup.signal()
        thread.withLock { $0.take()?.join() }
    }

    private func startThread() throws(SystemError) {
        try thread.withLock { (thread) throws(SystemError) in
            guard thread == nil else { return }
            let engine = Mutex<TransferEngine?>(try TransferEngine(config, host, wakeup: wakeup.descriptor))
            thread = try Thread("pyroscope.write") { [self] in
                if let engine = engine.withLock({ $0.take() }) { run(engine) }
            }
        }
    }

    private func run(_ engine: TransferEngine) {
        while true {
            guard engine.turn() else {
                engine.sendBatches()
                continue
            }
            wakeup.clear()
            let new = inbox.withLock { inbox in
                defer { (inbox.work, inbox.isAborting) = ([], false) }
                return inbox
            }
            if new.isAborting { engine.abort() }
            for item in new.work {
                switch item {
                case .dispatch(let dispatch): new.isAborting ? dispatch.finish(.aborted) : engine.start(dispatch)
                case .flush(let flush): engine.add(flush)
                }
            }
            engine.sendBatches()
            if new.isClosing { return }
        }
    }
}

/// Returns the plugin's table of C functions; NULL when `hostSize`, the byte size of the gateway's `gw_host`, is that of a gateway
/// older than v1.0.
@c(gw_plugin_v1)
public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: HTTPWriter.self, hostSize) }
