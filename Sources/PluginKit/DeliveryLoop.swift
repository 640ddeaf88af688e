import Glibc
import PluginABI

/// Calls that an instance gets on its own delivery thread beside those of its protocol, so that it needs no thread for connections
/// and times; from a gateway with `gw.loop/1` and `gw.timer/1`.
///
/// The calls come between the others and never overlap with them; none comes once ``Plugin/close()`` has begun.
public struct DeliveryLoop: Sendable {
    private let access: HostAccess

    /// What to call; the plugin keeps it as long as it may be called.
    public final class Handler: Sendable {
        fileprivate let body: @Sendable () -> Void

        /// Makes a handler from a closure, which is called on the delivery thread.
        public init(_ body: @escaping @Sendable () -> Void) { self.body = body }

        fileprivate var pointer: UnsafeMutableRawPointer { unsafe Unmanaged.passUnretained(self).toOpaque() }
        fileprivate static func call(_ pointer: UnsafeMutableRawPointer?) {
            if let pointer = unsafe pointer { unsafe Unmanaged<Handler>.fromOpaque(pointer).takeUnretainedValue().body() }
        }
    }

    /// - Returns: nil from a gateway that has no such calls.
    init?(_ access: HostAccess) {
        self.access = access
        for id in [GW_LOOP_EXTENSION, GW_TIMER_EXTENSION] {
            let isThere = access.use { host in unsafe host.pointee.extension(host.pointee.context, id) != nil }
            guard isThere == true else { return nil }
        }
    }

    /// Lets `handler` be called as long as the descriptor can be read; nil ends that, which must come before it is closed.
    ///
    /// Only from a call on the delivery thread.
    ///
    /// - Returns: 0, or the error's number.
    public func watch(_ descriptor: Int32, _ handler: Handler?) -> Int32 {
        let pointer = unsafe handler?.pointer
        return access.use { host in
            guard let found = unsafe host.pointee.extension(host.pointee.context, GW_LOOP_EXTENSION) else { return ENOSYS }
            let loop = unsafe found.assumingMemoryBound(to: gw_loop.self)
            let events = handler == nil ? 0 : UInt32(POLLIN)
            return unsafe loop.pointee.watch(
                host.pointee.context, descriptor, events, { argument, _ in unsafe Handler.call(argument) }, pointer)
        } ?? 0
    }

    /// Lets `handler` be called once after a time, instead of what the timer was set to before; a nil time takes that back.
    ///
    /// From any thread.
    ///
    /// - Parameters:
    ///   - timer: 0 to 7.
    ///   - time: how long from now; it is called no earlier.
    ///   - handler: what to call.
    public func set(_ timer: UInt32, after time: Duration?, _ handler: Handler) {
        let (seconds, attoseconds) = max(.zero, min(time ?? .zero, .seconds(1 << 30))).components
        let delay = time == nil ? UInt64.max : UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        let pointer = unsafe handler.pointer
        access.use { host in
            guard let found = unsafe host.pointee.extension(host.pointee.context, GW_TIMER_EXTENSION) else { return }
            let timers = unsafe found.assumingMemoryBound(to: gw_timer.self)
            _ = unsafe timers.pointee.set(host.pointee.context, timer, delay, { unsafe Handler.call($0) }, pointer)
        }
    }
}
