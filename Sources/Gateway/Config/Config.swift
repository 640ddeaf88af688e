import ConfigJSON
import HTTPServer
import LinuxSystem
import ProfileAPI
import ProfileArchive
import Receivers
import SpoolStore
import Telemetry

/// The values of the config file, with every default filled in.
struct Config {
    /// The folder of the spool and the dead letters; nil keeps queues in memory.
    var dataDirectory: String?
    var spool = SpoolConfig()
    /// The admin listener; nil turns it off.
    var admin: AdminConfig? = AdminConfig()
    var log = Log.Settings()
    /// Folders that are searched for plugins before the executable's own folder.
    var pluginDirs: [String] = []
    var limits = Limits()
    var deadLetters = DeadLetterConfig()
    /// How long the gateway still serves after the signal to stop, while it says that it is not ready.
    var shutdownDelay = Duration.zero
    var shutdownTimeout = Duration.seconds(30)
    /// The number of event loops that serve senders.
    var loops = Self.usualLoops
    var listeners: [ListenerConfig] = []
    var receivers: [ReceiverConfig] = []

    /// Half of the processors that were usable when the process started, at most 8; deliveries need the other half.
    private static let usualLoops = min(8, max(1, Processors.usable / 2))
}

extension Config {
    /// The folders that are searched for plugins, in order: the config's, then the executable's own.
    var pluginFolders: [String] { pluginDirs + [ProcessStart.executableFolder] }
}

struct AdminConfig: Equatable {
    var http = HTTPConfig(address: "127.0.0.1", port: 12345, connLimit: 256)
    /// The names by which the admin listener may be addressed, in lower case, beside IP addresses and `localhost`.
    var hosts: [String] = []
    /// The accepted profiles that the page shows; its default address is a loopback address, so bodies are kept by default.
    var recent = FanOut.Recent.Bounds()
}

/// One entry of `receive_http`.
struct ListenerConfig: Equatable {
    var name: String
    var http = HTTPConfig()
    /// Request headers that plugins see, names in lower case.
    var keepHeaders = ["traceparent", "tracestate", "uber-trace-id", "user-agent"]
    /// The prefix of every path; empty for none.
    var pathPrefix = ""
    /// Whether the listener answers those who ask for health, without credentials.
    var health = true
    var ack = AckMode.queued
    var tenant = TenantPolicy.pass
    /// nil is no limit.
    var rateLimit: RateLimitConfig?
    /// How long an accepted request is remembered, so that a retry of it is not delivered again; nil turns this off.
    var dedupWindow: Duration?
    var forwardTo: [String] = []
}

extension Config {
    /// The memory of accepted requests that a listener needs; nil without a `dedup_window`.
    func window(of listener: ListenerConfig) -> RequestMemories.Window? {
        listener.dedupWindow.map { length in
            RequestMemories.Window(listener: listener.name, length: length, outlivesProcess: outlivesProcess(listener))
        }
    }

    private func outlivesProcess(_ listener: ListenerConfig) -> Bool {
        guard dataDirectory != nil else { return false }
        if listener.ack == .delivered { return true }
        return receivers.filter { listener.forwardTo.contains($0.name) }.allSatisfy { $0.queue.storage == .disk }
    }
}
