/// A plugin that finishes its deliveries at any time, from any thread.
///
/// It owes an outcome for each ``Delivery``, also after ``abort()``. Where one call or one task does the whole delivery,
/// ``SynchronousReceiver`` and `AsyncReceiver` need no care for that.
public protocol Receiver: Plugin {
    /// Takes one profile; the outcome is reported to `delivery`, now or later, from any thread.
    ///
    /// The profile is valid until the delivery is finished. At most `max_in_flight` deliveries are open.
    func deliver(_ profile: Profile, _ delivery: consuming Delivery)

    /// Sends what waits for more profiles, because few or none follow; called once.
    func drain()

    /// Makes all profiles handed over before durable, then finishes `flush`.
    func flush(_ flush: consuming Delivery)

    /// Finishes every open delivery and flush within a second, as aborted if the work is not done; called from any thread.
    func abort()
}

extension Receiver {
    /// Does nothing, for a plugin that holds nothing back.
    public func drain() {}
    /// Finishes `flush` as delivered at once, for a plugin whose finished deliveries are already durable.
    public func flush(_ flush: consuming Delivery) { flush.finish(.delivered) }
}
