import Glibc
import LinuxSystem
import PluginABI
import Synchronization

/// The descriptors that the thread of one plugin instance watches: the extension `gw.loop/1`.
///
/// `@unchecked`: all but ``wake()`` and ``isUsed`` is used by the instance's own thread alone. It takes no descriptor until a plugin
/// watches one, and none after ``close()``.
@safe final class PluginLoop: @unchecked Sendable {
    /// What to call when a descriptor is ready.
    @safe private struct Watch {
        let descriptor: Int32
        let ready: @convention(c) (UnsafeMutableRawPointer?, UInt32) -> Void
        let argument: UnsafeMutableRawPointer?
    }

    private final class Polling {
        let poller: Poller

        init(_ wakeup: Wakeup) throws(SystemError) {
            poller = try Poller()
            // It is never read: each signal is another edge.
            try poller.add(wakeup.descriptor, [.readable, .edge], key: PluginLoop.wakeupKey)
        }
    }

    private static let wakeupKey: UInt64 = 0
    private var polling: Polling?
    private let wakeup = Mutex<Wakeup?>(nil)
    private var watches: [UInt64: Watch] = [:]
    private var keys: [Int32: UInt64] = [:]
    /// A key is used once, so that an event of a descriptor that is not watched any more is told from one of its successor.
    private var lastKey = PluginLoop.wakeupKey
    /// The number of events of the last wait whose calls are still to be made.
    private var readyCount = 0
    private let used = Atomic<Bool>(false)
    private let isSignalled = Atomic<Bool>(false)

    /// Whether the plugin has watched a descriptor, so that its thread must wait here.
    var isUsed: Bool { used.load(ordering: .acquiring) }

    /// Watches a descriptor, or stops with no events.
    ///
    /// - Returns: 0, or the error's number.
    func watch(
        _ descriptor: Int32, _ wanted: UInt32, _ ready: (@convention(c) (UnsafeMutableRawPointer?, UInt32) -> Void)?,
        _ argument: UnsafeMutableRawPointer?
    ) -> Int32 {
        let interest = Poller.Interest(rawValue: wanted).intersection([.readable, .writable])
        do throws(SystemError) {
            guard !interest.isEmpty else {
                guard let key = keys.removeValue(forKey: descriptor) else { return 0 }
                watches[key] = nil
                polling?.poller.remove(descriptor)
                return 0
            }
            guard let ready = unsafe ready else { return EINVAL }
            if polling == nil { try begin() }
            lastKey += 1
            try add(descriptor, interest, lastKey)
            if let former = keys.updateValue(lastKey, forKey: descriptor) { watches[former] = nil }
            watches[lastKey] = unsafe Watch(descriptor: descriptor, ready: ready, argument: argument)
        } catch { return error.code }
        used.store(true, ordering: .releasing)
        return 0
    }

    private func begin() throws(SystemError) {
        let new = try Wakeup()
        polling = try Polling(new)
        wakeup.withLock { $0 = new }
    }

    /// Ends with the instance, and closes its own descriptors.
    func close() {
        (polling, watches, keys) = (nil, [:], [:])
        wakeup.withLock { $0 = nil }
    }

    private func add(_ descriptor: Int32, _ interest: Poller.Interest, _ key: UInt64) throws(SystemError) {
        guard keys[descriptor] != nil else { return try polling?.poller.add(descriptor, interest, key: key) ?? () }
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
        let count = polling.poller.wait(until: deadline)
        readyCount = count
        let isSignal = (0..<count).contains { polling.poller[$0].key == Self.wakeupKey }
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
            // No watch has the key of the wakeup.
            if let watch = watches[event.key] { unsafe watch.ready(watch.argument, event.ready.rawValue) }
        }
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
                }))
        return unsafe UnsafePointer(table)
    }()
}
