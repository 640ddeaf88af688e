import ConfigJSON
import ProfileArchive

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
    var shutdownTimeout = Duration.seconds(30)
    var listeners: [ListenerConfig] = []
    var receivers: [ReceiverConfig] = []
}

extension Config {
    /// The folders that are searched for plugins, in order: the config's, then the executable's own.
    var pluginFolders: [String] { pluginDirs + [ProcessStart.executableFolder] }
}

struct AdminConfig: Equatable {
    var http = HTTPConfig(address: "127.0.0.1", port: 12345, connLimit: 256)
    /// The names by which the admin listener may be addressed, in lower case, beside IP addresses and `localhost`.
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
    /// The most of these bytes for one tenant, or for one address where senders choose their tenant, while others need the rest.
    var maxInFlightBytesPerSender = 128 << 20
}

/// The bounds of the dead letters of each receiver.
struct DeadLetterConfig: Equatable, Sendable {
    /// Beyond this, the oldest dead letters are removed.
    var maxBytes = 1 << 30
    /// Dead letters older than this are removed.
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
    /// How long an accepted request is remembered, so that a retry of it is not delivered again; nil turns this off.
    var dedupWindow: Duration?
    var forwardTo: [String] = []
}

/// A listener's `http` block; names and defaults are Alloy's.
struct HTTPConfig: Equatable {
    /// Empty is all interfaces.
    var address = ""
    /// 0 is any free port.
    var port: UInt16 = 8080
    /// The most connections at a time; 0 is no limit.
    var connLimit = 16384
    /// The most connections from one address; 0 is no limit.
    var connLimitPerAddress = 0
    /// How long a request may take to arrive, head and body.
    var readTimeout = Duration.seconds(30)
    /// How long an answer may take to become ready, and then to be sent.
    var writeTimeout = Duration.seconds(30)
    /// The fewest bytes a second that a body must bring; 0 is no bound.
    var minimumBodyRate = 1 << 10
    /// How long a connection may wait for its next request.
    var idleTimeout = Duration.seconds(120)
    /// The age at which a connection closes with its next answer; zero is never.
    var maximumConnectionAge = Duration.zero
    /// nil serves plain HTTP.
    var tls: TLSConfig?
    /// nil lets everybody send.
    var auth: AuthConfig?
}

/// One entry of `receivers`.
struct ReceiverConfig {
    var name: String
    /// A plugin's name, or a path ending in `.so`.
    var plugin = ""
    /// The SHA-256 of the plugin's file, in lower-case hexadecimal; nil trusts everyone who can write the file.
    var pluginHash: String?
    /// The config that is passed to the plugin; an empty object when the file has none.
    var pluginConfig = JSONValue(.object([]), at: TextPosition(line: 1, column: 1))
    /// Where `plugin` stands in the file, for errors about loading it.
    var pluginPosition = TextPosition(line: 1, column: 1)
    var required = true
    /// Whether the gateway refuses to start while the plugin reports that it has failed.
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
    /// The oldest waiting profiles are dropped to make room.
    case dropOldest = "drop_oldest"
    /// The sender gets 503 and no receiver gets the profile; a receiver that is not required just drops it.
    case reject
}

/// When a sender gets status 200.
enum AckMode: String, CaseIterable, Sendable {
    /// When every receiver has the profile in its queue.
    case queued
    /// When every required receiver has settled, as in Alloy.
    case delivered
}
