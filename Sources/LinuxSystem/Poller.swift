import CLinux
import Glibc

/// Waits for readiness of many descriptors, level-triggered (`epoll`); used by one thread.
@safe public struct Poller: ~Copyable {
    /// The events to wait for, or the events that occurred.
    public struct Interest: OptionSet, Sendable {
        /// The event bits of epoll_ctl(2).
        public let rawValue: UInt32
        /// Makes a set from the event bits of epoll_ctl(2).
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// The descriptor can be read, or the peer has ended its stream.
        public static let readable = Interest(rawValue: EPOLLIN.rawValue)
        /// The descriptor can be written.
        public static let writable = Interest(rawValue: EPOLLOUT.rawValue)
        /// The peer has closed or the descriptor failed; always reported.
        public static let hangup = Interest(rawValue: EPOLLHUP.rawValue | EPOLLERR.rawValue)
        /// Reported once for each change, not as long as the descriptor is ready.
        public static let edge = Interest(rawValue: EPOLLET.rawValue)
        /// Wakes only one of the pollers that share the descriptor.
        public static let exclusive = Interest(rawValue: EPOLLEXCLUSIVE.rawValue)
    }

    /// A descriptor that became ready, identified by the key it was added with.
    public struct Event: Sendable {
        /// The key that the descriptor was added or last modified with.
        public let key: UInt64
        /// The events that occurred.
        public let ready: Interest
    }

    private let epoll: FileDescriptor
    /// Allocated apart, so that waiting changes nothing of the poller itself, which may be a constant of an object.
    private let buffer: UnsafeMutableBufferPointer<epoll_event>

    /// Makes a poller that reports at most `batch` events at a time.
    public init(batch: Int = 256) throws(SystemError) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw SystemError("epoll_create1") }
        epoll = FileDescriptor(owning: number)
        unsafe buffer = .allocate(capacity: batch)
        unsafe buffer.initialize(repeating: epoll_event())
    }

    deinit { unsafe buffer.deallocate() }

    /// Adds a descriptor, which the caller keeps open and closes; throws EEXIST when it was added before.
    public func add(_ descriptor: Int32, _ interest: Interest, key: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_ADD, descriptor, interest, key)
    }

    /// Replaces the events and the key of a descriptor; throws ENOENT when it was not added.
    public func modify(_ descriptor: Int32, _ interest: Interest, key: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_MOD, descriptor, interest, key)
    }

    /// Removes a descriptor; a missing one is no error.
    public func remove(_ descriptor: Int32) {
        var event = unsafe epoll_event()
        unsafe epoll_ctl(epoll.number, EPOLL_CTL_DEL, descriptor, &event)
    }

    private func control(_ verb: Int32, _ descriptor: Int32, _ interest: Interest, _ key: UInt64) throws(SystemError) {
        var event = unsafe epoll_event()
        unsafe event.events = interest.rawValue
        unsafe event.data.u64 = key
        guard unsafe epoll_ctl(epoll.number, verb, descriptor, &event) == 0 else { throw SystemError("epoll_ctl") }
    }

    /// Waits until a descriptor is ready or `deadline` has passed.
    ///
    /// - Returns: the number of events; ``subscript(_:)`` gives each of them until the next wait.
    public func wait(until deadline: MonotonicTime) -> Int {
        max(0, Int(unsafe epoll_wait(epoll.number, buffer.baseAddress, Int32(buffer.count), Self.milliseconds(until: deadline))))
    }

    /// An event of the last wait; `index` is below the number that it returned.
    public subscript(index: Int) -> Event {
        precondition(unsafe buffer.indices.contains(index), "an event beyond the last one")
        return unsafe Event(key: buffer[index].data.u64, ready: Interest(rawValue: buffer[index].events))
    }

    private static func milliseconds(until deadline: MonotonicTime) -> Int32 {
        if deadline == .never { return -1 }
        // The beginning of the clock, which stands for "do not wait", costs no look at it.
        if deadline.nanoseconds <= 0 { return 0 }
        let left = deadline.nanoseconds - MonotonicTime.now.nanoseconds
        // Rounded up: waking a moment too early would repeat the wait in a busy loop until the deadline.
        return left <= 0 ? 0 : Int32(clamping: (left + 999_999) / 1_000_000)
    }
}

/// A descriptor that any thread can make readable to wake the thread that polls it (`eventfd`).
public final class Wakeup: Sendable {
    private let event: FileDescriptor

    /// Makes an unsignalled descriptor, closed with this object; throws the error of eventfd(2).
    public init() throws(SystemError) {
        let number = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard number >= 0 else { throw SystemError("eventfd") }
        event = FileDescriptor(owning: number)
    }

    /// The descriptor to poll for readability.
    public var descriptor: Int32 { event.number }

    /// Makes the descriptor readable until the next ``clear()``; never blocks.
    public func signal() {
        var one: UInt64 = 1
        _ = unsafe write(event.number, &one, 8)
    }

    /// Makes the descriptor unreadable until the next ``signal()``.
    public func clear() {
        var count: UInt64 = 0
        _ = unsafe read(event.number, &count, 8)
    }
}
