public import ConfigJSON

/// One configured instance of a plugin; the protocol that a plugin in Swift implements.
///
/// The gateway makes an instance from its config, hands it profiles one at a time, and destroys it. All calls but ``abort()`` come
/// from the receiver's own thread and never overlap for one instance. They may block, which delays only this receiver, but must not
/// run inside a `Task`. The contract behind this type is `PluginABI.h`.
///
/// A plugin exports one type, in one file:
///
///     @c(gw_plugin_v1)
///     public func entry(hostSize: Int) -> UnsafePointer<gw_plugin>? { unsafe pluginTable(of: MySink.self, hostSize) }
public protocol Receiver: AnyObject, Sendable {
    /// The plugin's name: `gateway.stdout`.
    static var name: String { get }
    /// The plugin's version: `1.2.0`.
    static var version: String { get }

    /// Makes an instance.
    ///
    /// Problems reported to `config` refuse the config; unknown members are reported automatically. It must not start threads, open
    /// connections, or have effects that other processes see, except creating directories: those begin with the first
    /// ``deliver(_:_:)``.
    ///
    /// - Throws: any other obstacle; its text becomes the gateway's error message.
    init(config: ConfigObject, host: Host) throws

    /// Takes one profile; the outcome is reported to `delivery`, now or later, from any thread.
    ///
    /// The profile is valid until the delivery is finished. At most `max_in_flight` deliveries are open.
    func deliver(_ profile: Profile, _ delivery: consuming Delivery)

    /// Makes all profiles handed over before durable, then finishes `flush`.
    func flush(_ flush: consuming Delivery)

    /// Finishes every open delivery within a second, as aborted if the work is not done; called from any thread.
    func abort()

    /// Ends the instance; its threads must have ended when this returns. No delivery is open, and no call follows.
    func close()
}

extension Receiver {
    /// Finishes `flush` as delivered at once, for a plugin whose finished deliveries are already durable.
    public func flush(_ flush: consuming Delivery) { flush.finish(.delivered) }
    /// Does nothing, for a plugin that finishes each delivery before ``deliver(_:_:)`` returns.
    public func abort() {}
    /// Does nothing, for a plugin that has no threads to end.
    public func close() {}
}
