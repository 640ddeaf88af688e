public import PluginABI
public import PluginKit

/// A plugin with one task for each delivery, so that many are at work at a time.
///
/// Up to `max_in_flight` tasks run at once. Nothing in them may block a thread, which all tasks of the process share: work that
/// blocks, such as writing to a disk, belongs on a thread or a dispatch queue, with a continuation to wait for it.
///
/// `close()` is called when all tasks have ended, or a quarter of a second after they were cancelled: one that ignores that
/// may go on, and its `GatewayHost` does nothing any more.
public protocol AsyncReceiver: Plugin {
    /// Delivers one profile, which is valid until this returns.
    ///
    /// When the gateway aborts, the task is cancelled and its delivery finished at once as aborted; what this returns after that has
    /// no effect.
    ///
    /// - Returns: the outcome.
    /// - Throws: an `Outcome`, or any other error, which means a retry with the error's text as the reason.
    func deliver(_ profile: Profile, attempt: Attempt) async throws -> Outcome

    /// Sends what waits for more profiles, because few or none follow; called once, beside the deliveries that are at work.
    func drain() async
}

extension AsyncReceiver {
    /// Does nothing, for a plugin that holds nothing back.
    public func drain() async {}
}

/// The table of C functions that makes `type` a plugin, as for the other kinds of plugins.
///
/// - Parameters:
///   - type: the receiver's class.
///   - hostSize: the size that the gateway passed to the entry. A gateway older than v1.0 gets NULL.
public func pluginTable<R: AsyncReceiver>(of type: R.Type, _ hostSize: Int) -> UnsafePointer<gw_plugin>? {
    unsafe pluginTable(of: AsyncCalls<R>.self, hostSize)
}
