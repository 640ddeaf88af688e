import LinuxSystem
import PluginABI
import Synchronization

/// The timers of one plugin instance: the extension `gw.timer/1`. Thread-safe.
@safe final class PluginTimers: Sendable {
    /// A call that is to be made at a time.
    @safe private struct Call: @unchecked Sendable {
        let due: MonotonicTime
        let fire: @convention(c) (UnsafeMutableRawPointer?) -> Void
        let argument: UnsafeMutableRawPointer?
    }

    private let calls = Mutex<[Call?]>(Array(repeating: nil, count: Int(GW_TIMERS)))
    private let earliest = Atomic<Int64>(MonotonicTime.never.nanoseconds)

    /// When the next call is due; `never` when there is none.
    var next: MonotonicTime { MonotonicTime(nanoseconds: earliest.load(ordering: .acquiring)) }

    /// Sets a timer, or takes it back.
    ///
    /// - Returns: false when there is no such timer, or nothing to call.
    func set(
        _ timer: UInt32, after delay: UInt64, _ fire: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?,
        _ argument: UnsafeMutableRawPointer?
    ) -> Bool {
        guard timer < GW_TIMERS else { return false }
        var call: Call?
        if delay != .max {
            guard let fire = unsafe fire else { return false }
            let due = MonotonicTime.now + .nanoseconds(Int64(clamping: min(delay, Self.longest)))
            call = unsafe Call(due: due, fire: fire, argument: argument)
        }
        calls.withLock { calls in
            calls[Int(timer)] = call
            note(calls)
        }
        return true
    }

    /// A century; a later time could not be told from never.
    private static let longest: UInt64 = 100 * 365 * 86400 * 1_000_000_000

    /// Makes the call that has been due for longest, on this thread; does nothing when none is due.
    func fire(now: MonotonicTime) {
        let call = calls.withLock { calls -> Call? in
            let due = calls.indices.filter { calls[$0].map { $0.due <= now } ?? false }
            guard let first = due.min(by: { (calls[$0]?.due ?? .never) < (calls[$1]?.due ?? .never) }) else { return nil }
            defer {
                calls[first] = nil
                note(calls)
            }
            return calls[first]
        }
        // Without the lock, because the call may set timers.
        if let call { unsafe call.fire(call.argument) }
    }

    private func note(_ calls: [Call?]) {
        earliest.store(calls.compactMap { $0?.due }.min()?.nanoseconds ?? MonotonicTime.never.nanoseconds, ordering: .releasing)
    }

    /// The functions, shared by all instances; never freed.
    nonisolated(unsafe) static let table: UnsafePointer<gw_timer> = {
        let table = UnsafeMutablePointer<gw_timer>.allocate(capacity: 1)
        unsafe table.initialize(
            to: gw_timer(
                size: MemoryLayout<gw_timer>.size,
                set: { context, timer, delay, fire, argument in
                    guard let host = unsafe HostServices.at(context), unsafe host.timers.set(timer, after: delay, fire, argument) else {
                        return 1
                    }
                    host.events.timerSet()
                    return 0
                }))
        return unsafe UnsafePointer(table)
    }()
}
