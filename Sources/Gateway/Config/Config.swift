import ConfigJSON
import ProfileArchive

/// What the config file says, with every default filled in.
struct Config {
    /// Where the spool and the dead letters are; nil keeps queues in memory.
    var dataDirectory: String?
    var spool = SpoolConfig()
    /// Where the admin listener listens; nil turns it off.
    var admin: AdminConfig? = AdminConfig()
    var log = Log.Settings()
    /// Searched for plugins before the executable's own folder.
    var pluginDirs: [String] = []
    var limits = Limits()
    var deadLetters = DeadLetterConfig()
    var shutdownTimeout = Duration.seconds(30)
    var listeners: [ListenerConfig] = []
    var receivers: [ReceiverConfig] = []
}

extension Config {
    /// Where plugins are looked for, in order: the config's folders, then the executable's own.
    var pluginFolders: [String] { pluginDirs + [ProcessStart.executableFolder] }
}

struct AdminConfig: Equatable {
    var http = HTTPConfig(address: "127.0.0.1", port: 12345, connLimit: 256)
    /// The names by which it may be asked, in lower case, beside IP addresses and `localhost`.
    var hosts: [String] = []
}

/// Bounds on what senders may make the gateway hold.
struct Limits: Equatable {
    /// The most bytes of one request's body, as received.
    var maxBodySize = 64 << 20
    /// The most bytes a compressed Push may inflate to.
    var maxDecompressedSize = 256 << 20
    /// The most bytes of all bodies that are being received and not queued yet.
    var maxInFlightBytes = 512 << 20
    /// The most of them that are of one tenant, or of one address where senders choose their tenant, while others need the rest.
    var maxInFlightBytesPerSender = 128 << 20
}

/// The bounds of what is kept of profiles that a receiver has given up, for each receiver.
struct DeadLetterConfig: Equatable, Sendable {
    /// The oldest are removed beyond this.
    var maxBytes = 1 << 30
    /// Older ones are removed.
    var maxAge = Duration.seconds(7 * 86_400)
    /// The permissions of their files and folders.
    var modes = ArchiveModes()
}

/// One entry of `receive_http`.
struct ListenerConfig: Equatable {
    var name: String
    var http = HTTPConfig()
    /// Request headers that plugins see, names in lower case.
    var keepHeaders = ["traceparent", "tracestate", "uber-trace-id", "user-agent"]
    var ack = AckMode.queued
    var tenant = TenantPolicy.pass
    /// nil is no limit.
    var rateLimit: RateLimitConfig?
    /// How long an accepted request is remembered, so that its retry is not delivered again; nil is not at all.
    var dedupWindow: Duration?
    var forwardTo: [String] = []
}

/// A listener's `http` block; names and defaults are Alloy's.
struct HTTPConfig: Equatable {
    /// Empty is all interfaces.
    var address = ""
    /// 0 is any free one.
    var port: UInt16 = 8080
    /// How many connections at a time; 0 is no limit.
    var connLimit = 16384
    /// How many of them from one address; 0 is no limit.
    var connLimitPerAddress = 0
    /// How long a request may take to arrive, head and body.
    var readTimeout = Duration.seconds(30)
    /// How long an answer may take to leave.
    var writeTimeout = Duration.seconds(30)
    /// How many bytes a second a body must bring at least; 0 is no bound.
    var minimumBodyRate = 1 << 10
    /// How long a connection may wait for its next request.
    var idleTimeout = Duration.seconds(120)
    /// How old a connection may be for another request; zero is without end.
    var maximumConnectionAge = Duration.zero
    /// nil speaks plain HTTP.
    var tls: TLSConfig?
    /// nil lets everybody send.
    var auth: AuthConfig?
}

/// One entry of `receivers`.
struct ReceiverConfig {
    var name: String
    /// A plugin's name, or a path ending in `.so`.
    var plugin = ""
    /// What the plugin's file must have, in lower-case hexadecimal; nil trusts those who may write it.
    var pluginHash: String?
    /// What the plugin is given; an empty object when the file has none.
    var pluginConfig = JSONValue(.object([]), at: TextPosition(line: 1, column: 1))
    /// Where `plugin` stands in the file, for errors about loading it.
    var pluginPosition = TextPosition(line: 1, column: 1)
    var required = true
    /// Whether the gateway does not start while its plugin says that it is failed.
    var requiredAtStart = false
    var queue = QueueConfig()
    var retry = RetryPolicy(minimum: .milliseconds(500), maximum: .seconds(30), retries: 0)
    /// The most deliveries open at a time.
    var maxInFlight = 64
    /// How long a delivery, or a call into the plugin, may take before the receiver counts as failed.
    var deliveryTimeout = Duration.seconds(60)

    var pluginName: PluginName { PluginName(name: plugin, sha256: pluginHash) }
}

/// The bounds of a receiver's queue.
struct QueueConfig: Equatable {
    enum Storage: String, CaseIterable, Sendable { case memory, disk }

    var storage = Storage.memory
    var maxBytes = 64 << 20
    var maxProfiles = 100_000
    /// Older profiles are dropped; nil keeps them.
    var maxAge: Duration?
    var onFull = OnFull.dropOldest
}

/// What happens to a profile that finds a receiver's queue full.
enum OnFull: String, CaseIterable, Sendable {
    /// The oldest that wait make room.
    case dropOldest = "drop_oldest"
    /// The sender gets 503 and nobody has the profile; a receiver that is not required drops it.
    case reject
}

/// When a sender gets its 200.
enum AckMode: String, CaseIterable, Sendable {
    /// When every receiver has the profile in its queue.
    case queued
    /// When every required receiver has settled, as Alloy does.
    case delivered
}
