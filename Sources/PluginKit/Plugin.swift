public import ConfigJSON

/// What every plugin in Swift has: a name, a config, a beginning and an end; a plugin conforms to one of the three protocols below.
///
/// - ``SynchronousReceiver``: `deliver` returns the outcome. The simplest, for a file, a terminal, a library that blocks.
/// - `AsyncReceiver`, of the module PluginKitAsync: `deliver` is `async` and returns the outcome; many deliveries are at work at a time.
/// - ``Receiver``: `deliver` gets a ``Delivery`` to finish at any time from any thread, for plugins with threads of their own.
///
/// The gateway makes an instance from its config, hands it profiles one at a time, and destroys it. All calls but `abort` come from
/// the receiver's own thread and never overlap for one instance. They may block, which delays only this receiver, but the `async`
/// ones must not. The contract behind this type is `PluginABI.h`.
///
/// A plugin exports one type, in one file:
///
///     @c(gw_plugin_v1)
///     public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: MySink.self, hostSize) }
public protocol Plugin: AnyObject, Sendable {
    /// The plugin's name: `gateway.stdout`.
    static var name: String { get }
    /// The plugin's version: `1.2.0`.
    static var version: String { get }

    /// A JSON Schema (2020-12) of the config, for people and editors; empty when there is none.
    static var configSchema: String { get }

    /// Makes an instance.
    ///
    /// Problems reported to `config` refuse the config; unknown members are reported automatically. It must not start threads or
    /// tasks, open connections, or have effects that other processes see, except creating directories: those begin with ``start()``
    /// or the first delivery.
    ///
    /// - Throws: any other obstacle; its text becomes the gateway's error message.
    init(config: ConfigObject, host: GatewayHost) throws

    /// Begins threads and connections, before the first delivery; not called by `gateway check`.
    ///
    /// - Throws: why the receiver cannot work yet: it is failed, its profiles wait, and this is called again, later and later.
    func start() throws

    /// Ends the instance; its threads must have ended when this returns. No delivery is open, and no call follows.
    func close()
}

extension Plugin {
    /// No schema.
    public static var configSchema: String { "" }
    /// Does nothing, for a plugin that begins its work with the first delivery.
    public func start() throws {}
    /// Does nothing, for a plugin that has no threads to end.
    public func close() {}
}

/// A plugin that can tell, without a profile, whether a delivery could succeed.
public protocol Probing: Plugin {
    /// Connects and authenticates without a profile, then finishes `probe`: as delivered when a delivery could succeed now.
    ///
    /// For `gateway check --connect`, which neither starts the instance nor delivers to it, beside a running gateway.
    func probe(_ probe: consuming Delivery)
}
