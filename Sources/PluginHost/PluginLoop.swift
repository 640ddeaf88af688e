import Glibc
import LinuxSystem
import PluginABI
import Synchronization

/// The descriptors that the thread of one plugin instance watches: the extension `gw.loop/1`.
///
/// `@unchecked`: all but ``wake()`` and ``isUsed`` is used by the instance's own thread alone. It takes no descriptor until a plugin
/// watches one, and none after ``close()``.
@safe final class PluginLoop: @unchecked Sendable {
    /// The call that is made when a descriptor is ready.
    @safe private struct Watch {
        let ready: @convention(c) (UnsafeMutableRawPointer?, UInt32) -> Void
        let argument: UnsafeMutableRawPointer?
    }

    /// The call that follows those of all descriptors that were ready together.
    @safe private struct After {
        let call: @convention(c) (UnsafeMutableRawPointer?) -> Void
        let argument: UnsafeMutableRawPointer?
    }

    /// A place for a watched descriptor. Its key changes with each use, so that an event of a descriptor that is not watched any more is
    /// told from one of its successor.
    private struct Place {
        var watch: Watch?
        var key: UInt64
    }

    private final class Polling {
        let poller: Poller

        init(_ wakeup: Wakeup) throws(SystemError) {
            poller = try Poller()
            // It is never read: each signal is another edge.
            try poller.add(wakeup.descriptor, [.readable, .edge], key: PluginLoop.wakeupKey)
        }

        /// - Returns: the number of events, and whether the wakeup is one of them.
        func wait(until deadline: MonotonicTime) -> (count: Int, isSignal: Bool) {
            let count = poller.wait(until: deadline)
            for index in 0..<count where poller[index].key == PluginLoop.wakeupKey { return (count, true) }
            return (count, false)
        }
    }

    private static let wakeupKey: UInt64 = 0
    private var polling: Polling?
    private let wakeup = Mutex<Wakeup?>(nil)
    private var places: [Place] = []
    private var freePlaces: [Int] = []
    /// The places of the watched descriptors.
    private var indices: [Int32: Int] = [:]
    private var after: After?
    /// The number of events of the last wait whose calls are still to be made.
    private var readyCount = 0
    private let used = Atomic<Bool>(false)
    private let isSignalled = Atomic<Bool>(false)

    /// Whether the plugin has begun to watch descriptors, so that its thread must wait here.
    var isUsed: Bool { used.load(ordering: .acquiring) }

    /// Watches a descriptor, or stops with no events.
    ///
    /// - Returns: 0, or the error's number.
    func watch(
        _ descriptor: Int32, _ wanted: UInt32, _ ready: (@convention(c) (UnsafeMutableRawPointer?, UInt32) -> Void)?,
        _ argument: UnsafeMutableRawPointer?
    ) -> Int32 {
        let interest = Poller.Interest(rawValue: wanted).intersection([.readable, .writable])
        guard !interest.isEmpty else {
            forget(descriptor)
            return 0
        }
        guard let ready = unsafe ready else { return EINVAL }
        do throws(SystemError) {
            if polling == nil { try begin() }
            let known = indices[descriptor]
            let index = known ?? freePlaces.last ?? places.count
            let key = Self.key(after: index < places.count ? places[index].key : 0, at: index)
            try add(descriptor, interest, key, isKnown: known != nil)
            let place = unsafe Place(watch: Watch(ready: ready, argument: argument), key: key)
            if index == places.count { places.append(place) } else { places[index] = place }
            if known == nil {
                if !freePlaces.isEmpty { freePlaces.removeLast() }
                indices[descriptor] = index
            }
        } catch { return error.code }
        return 0
    }

    /// The next key of a place: the upper half is the number of its use, the lower half that of the place, which is never 0.
    private static func key(after former: UInt64, at index: Int) -> UInt64 { (former >> 32 &+ 1) << 32 | UInt64(index + 1) }

    private func forget(_ descriptor: Int32) {
        guard let index = indices.removeValue(forKey: descriptor) else { return }
        places[index].watch = nil
        freePlaces.append(index)
        polling?.poller.remove(descriptor)
    }

    /// Sets what is called after the calls of all descriptors that were ready together; nil for nothing.
    ///
    /// - Returns: 0, or the error's number.
    func callAfterReady(
        _ call: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?, _ argument: UnsafeMutableRawPointer?
    ) -> Int32 {
        do throws(SystemError) { if unsafe call != nil, polling == nil { try begin() } } catch { return error.code }
        after = unsafe call.map { unsafe After(call: $0, argument: argument) }
        return 0
    }

    private func begin() throws(SystemError) {
        let new = try Wakeup()
        polling = try Polling(new)
        wakeup.withLock { $0 = new }
        used.store(true, ordering: .releasing)
    }

    /// Ends with the instance, and closes its own descriptors.
    func close() {
        (polling, places, freePlaces, indices, after) = (nil, [], [], [:], nil)
        wakeup.withLock { $0 = nil }
    }

    private func add(_ descriptor: Int32, _ interest: Poller.Interest, _ key: UInt64, isKnown: Bool) throws(SystemError) {
        guard isKnown else { return try polling?.poller.add(descriptor, interest, key: key) ?? () }
        do throws(SystemError) { try polling?.poller.modify(descriptor, interest, key: key) } catch {
            // The plugin has closed the descriptor without a word, and this is another one with its number.
            guard error.code == ENOENT else { throw error }
            try polling?.poller.add(descriptor, interest, key: key)
        }
    }

    /// Waits until a descriptor is ready, ``wake()`` is called or the time has come.
    ///
    /// - Returns: whether ``makeCalls()`` has calls to make.
    func wait(until deadline: MonotonicTime) -> Bool {
        guard let polling else { return false }
        let (count, isSignal) = polling.wait(until: deadline)
        readyCount = count
        // Before the thread looks for work, so that a signal that comes after the look is another edge.
        if isSignal { isSignalled.store(false, ordering: .sequentiallyConsistent) }
        return count > (isSignal ? 1 : 0)
    }

    /// Makes the calls for the descriptors that were ready; each call may change what is watched.
    func makeCalls() {
        guard let polling else { return }
        let count = readyCount
        readyCount = 0
        for index in 0..<count {
            let event = polling.poller[index]
            // No place has the key of the wakeup.
            let place = Int(event.key & 0xFFFF_FFFF) - 1
            guard places.indices.contains(place), places[place].key == event.key, let watch = places[place].watch else { continue }
            unsafe watch.ready(watch.argument, event.ready.rawValue)
        }
        if let after { unsafe after.call(after.argument) }
    }

    /// Ends the current or next ``wait(until:)``; callable from any thread.
    func wake() {
        guard isUsed, !isSignalled.exchange(true, ordering: .sequentiallyConsistent) else { return }
        wakeup.withLock { $0?.signal() }
    }

    /// The functions, shared by all instances; never freed.
    nonisolated(unsafe) static let table: UnsafePointer<gw_loop> = {
        let table = UnsafeMutablePointer<gw_loop>.allocate(capacity: 1)
        unsafe table.initialize(
            to: gw_loop(
                size: MemoryLayout<gw_loop>.size,
                watch: { context, descriptor, events, ready, argument in
                    unsafe HostServices.at(context)?.loop.watch(descriptor, events, ready, argument) ?? EINVAL
                },
                after_ready: { context, after, argument in unsafe HostServices.at(context)?.loop.callAfterReady(after, argument) ?? EINVAL }
            ))
        return unsafe UnsafePointer(table)
    }()
}
