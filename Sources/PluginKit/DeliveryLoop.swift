import Glibc
import PluginABI

/// Calls that an instance gets on its own delivery thread beside those of its protocol, so that it needs no thread for connections
/// and times; from a gateway with `gw.loop/1`, all of it, and `gw.timer/1`.
///
/// The calls come between the others and never overlap with them; none comes once ``Plugin/close()`` has begun.
public struct DeliveryLoop: Sendable {
    private let access: HostAccess

    /// The events that a descriptor is ready for, as the bits of poll(2).
    public struct Events: OptionSet, Sendable {
        /// The bits.
        public let rawValue: UInt32
        /// Makes a set from the bits.
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// It can be read, or the peer has ended its stream.
        public static let readable = Events(rawValue: UInt32(POLLIN))
        /// It can be written.
        public static let writable = Events(rawValue: UInt32(POLLOUT))
        /// The peer has closed it, or it failed; reported although it is not asked for.
        public static let hangup = Events(rawValue: UInt32(POLLHUP | POLLERR))
    }

    /// What to call; the plugin keeps it as long as it may be called.
    public final class Handler: Sendable {
        fileprivate let body: @Sendable (Events) -> Void

        /// Makes a handler from a closure, which is called on the delivery thread with what a descriptor is ready for; for other calls
        /// that is nothing.
        public init(_ body: @escaping @Sendable (Events) -> Void) { self.body = body }

        fileprivate var pointer: UnsafeMutableRawPointer { unsafe Unmanaged.passUnretained(self).toOpaque() }
        fileprivate static func call(_ pointer: UnsafeMutableRawPointer?, _ events: Events = []) {
            if let pointer = unsafe pointer { unsafe Unmanaged<Handler>.fromOpaque(pointer).takeUnretainedValue().body(events) }
        }
    }

    /// - Returns: nil from a gateway that has no such calls.
    init?(_ access: HostAccess) {
        self.access = access
        let isThere = access.use { host in
            guard let loop = unsafe Self.loop(host) else { return false }
            return unsafe loop.pointee.size >= MemoryLayout<gw_loop>.size
                && host.pointee.extension(host.pointee.context, GW_TIMER_EXTENSION) != nil
        }
        guard isThere == true else { return nil }
    }

    private static func loop(_ host: UnsafePointer<gw_host>) -> UnsafePointer<gw_loop>? {
        unsafe host.pointee.extension(host.pointee.context, GW_LOOP_EXTENSION).map { unsafe $0.assumingMemoryBound(to: gw_loop.self) }
    }

    /// Lets `handler` be called as long as the descriptor is ready for one of `events`, instead of what it was watched for before; no
    /// events end that, which must come before the descriptor is closed.
    ///
    /// Only from a call on the delivery thread.
    ///
    /// - Returns: 0, or the error's number.
    public func watch(_ descriptor: Int32, for events: Events, _ handler: Handler?) -> Int32 {
        let pointer = unsafe handler?.pointer
        return access.use { host in
            guard let loop = unsafe Self.loop(host) else { return ENOSYS }
            return unsafe loop.pointee.watch(
                host.pointee.context, descriptor, events.rawValue,
                { argument, ready in unsafe Handler.call(argument, Events(rawValue: ready)) }, pointer)
        } ?? 0
    }

    /// Lets `handler` be called each time the handlers of all descriptors that were ready together have been called; nil ends that.
    ///
    /// Only from a call on the delivery thread.
    ///
    /// - Returns: 0, or the error's number.
    public func callAfterReady(_ handler: Handler?) -> Int32 {
        let pointer = unsafe handler?.pointer
        return access.use { host in
            guard let loop = unsafe Self.loop(host) else { return ENOSYS }
            let call: (@convention(c) (UnsafeMutableRawPointer?) -> Void)? = handler == nil ? nil : { unsafe Handler.call($0) }
            return unsafe loop.pointee.after_ready(host.pointee.context, call, pointer)
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
