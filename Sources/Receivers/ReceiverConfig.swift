package import ConfigJSON
package import PluginHost
package import ProfileArchive
package import SpoolStore

/// One entry of `receivers`.
package struct ReceiverConfig {
    package var name: String
    /// A plugin's name, or a path ending in `.so`.
    package var plugin = ""
    /// The SHA-256 of the plugin's file, in lower-case hexadecimal; nil trusts everyone who can write the file.
    package var pluginHash: String?
    /// The config that is passed to the plugin; an empty object when the file has none.
    package var pluginConfig = JSONValue(.object([]), at: TextPosition(line: 1, column: 1))
    /// Where `plugin` stands in the file, for errors about loading it.
    package var pluginPosition = TextPosition(line: 1, column: 1)
    package var required = true
    /// Whether the gateway refuses to start while the plugin reports that it has failed.
    package var requiredAtStart = false
    package var queue = QueueConfig()
    package var retry = RetryPolicy(minimum: .milliseconds(500), maximum: .seconds(30), retries: 0)
    /// The most deliveries open at a time.
    package var maxInFlight = 64
    /// How long a delivery, or a call into the plugin, may take before the receiver counts as failed.
    package var deliveryTimeout = Duration.seconds(60)

    /// How the plugin runs in a process of its own; nil runs it in the gateway's.
    package var isolation: ProcessIsolation?

    package init(name: String) { self.name = name }

    package var pluginName: PluginName { PluginName(name: plugin, sha256: pluginHash) }
}

/// The bounds of a receiver's queue.
package struct QueueConfig: Equatable {
    package enum Storage: String, CaseIterable, Sendable { case memory, disk }

    package var storage = Storage.memory
    package var maxBytes = 64 << 20
    package var maxProfiles = 100_000
    /// Older profiles are dropped; nil keeps them.
    package var maxAge: Duration?
    package var onFull = OnFull.dropOldest

    package init() {}
}

/// The bounds of the dead letters of each receiver.
package struct DeadLetterConfig: Equatable, Sendable {
    /// Beyond this, the oldest dead letters are removed.
    package var maxBytes = 1 << 30
    /// Dead letters older than this are removed.
    package var maxAge = Duration.seconds(7 * 86_400)
    /// The permissions of their files and folders.
    package var modes = ArchiveModes()

    package init() {}
}
