import LinuxSystem
import PluginKit
import Synchronization

/// Runs the transfers of an instance on threads of its own, each with its own connections; thread-safe.
final class EngineThreads: EngineRunner {
    private let threads: [EngineThread]

    init(_ config: WriterConfig, _ host: GatewayHost) throws(SystemError) {
        let health = InstanceHealth(host, endpoints: config.endpoints.map(\.name))
        var threads: [EngineThread] = []
        do throws(SystemError) {
            for _ in 0..<config.loops { threads.append(try EngineThread(config, host, health)) }
        } catch {
            for thread in threads { thread.end() }
            throw error
        }
        self.threads = threads
    }

    func start(_ profile: Profile, _ delivery: consuming Delivery) { thread(for: profile.sequence).start(profile, delivery) }

    /// The thread for all attempts with a profile, since it remembers by which answer an endpoint has rejected it.
    private func thread(for sequence: UInt64) -> EngineThread {
        // Fibonacci hashing: the sequences of a receiver need not be consecutive, as when others get every second profile.
        let hash = (sequence &* 0x9E37_79B9_7F4A_7C15) >> 32
        return threads[Int(hash % UInt64(threads.count))]
    }

    /// Each endpoint is tried once, by the first thread.
    func probe(_ probe: SharedDelivery) { threads[0].probe(probe) }

    func flush(_ flush: SharedDelivery) {
        let shared = SharedFlush(flush, parts: threads.count)
        for thread in threads { thread.flush(shared) }
    }

    func abort() { for thread in threads { thread.abort() } }

    func end() { for thread in threads { thread.end() } }
}

/// Runs transfers on a thread of its own. Thread-safe.
private final class EngineThread: Sendable {
    private struct Inbox {
        var work: [Work] = []
        /// Stays true, since a delivery may come after the abort that was meant for it too.
        var isAborting = false
        var isClosing = false
    }

    private enum Work {
        case deliver(Parcel)
        case flush(SharedFlush)
        case probe(SharedDelivery)
    }

    /// A delivery on its way to the thread.
    private final class Parcel: Sendable {
        let profile: Profile
        /// Nil once it was taken.
        private let delivery: Mutex<Delivery?>

        init(_ profile: Profile, _ delivery: consuming Delivery) {
            self.profile = profile
            self.delivery = Mutex(delivery)
        }

        func take() -> Delivery? { delivery.withLock { $0.take() } }
    }

    private let wakeup: Wakeup
    private let inbox = Mutex(Inbox())
    private let thread = Mutex<Thread?>(nil)

    init(_ config: WriterConfig, _ host: GatewayHost, _ health: InstanceHealth) throws(SystemError) {
        let wakeup = try Wakeup()
        self.wakeup = wakeup
        // Before the thread, so that the first delivery learns of an error.
        let poller = Mutex<SocketPoller?>(try SocketPoller(wakeup))
        try thread.withLock { (thread) throws(SystemError) in
            thread = try Thread("pyroscope.write") { [self] in
                if let poller = poller.withLock({ $0.take() }) { run(TransferEngine(config, host, poller, health), poller) }
            }
        }
    }

    func start(_ profile: Profile, _ delivery: consuming Delivery) { add(.deliver(Parcel(profile, delivery))) }

    func flush(_ flush: SharedFlush) { add(.flush(flush)) }

    func probe(_ probe: SharedDelivery) { add(.probe(probe)) }

    private func add(_ work: Work) {
        let wasEmpty = inbox.withLock { inbox in
            inbox.work.append(work)
            return inbox.work.count == 1
        }
        if wasEmpty { wakeup.signal() }
    }

    func abort() {
        inbox.withLock { $0.isAborting = true }
        wakeup.signal()
    }

    func end() {
        inbox.withLock { $0.isClosing = true }
        wakeup.signal()
        thread.withLock { $0.take()?.join() }
    }

    private func run(_ engine: TransferEngine, _ poller: SocketPoller) {
        while true {
            poller.wait(until: engine.nextTurn)
            engine.sockets.beginRound()
            let isWoken = poller.tell()
            engine.endRound()
            // Profiles that have just come join the next batches, so those are sent only after the inbox was read.
            guard isWoken else {
                engine.sendBatches()
                continue
            }
            wakeup.clear()
            let new = inbox.withLock { inbox in
                defer { inbox.work = [] }
                return inbox
            }
            if new.isAborting { engine.abort() }
            for item in new.work {
                switch item {
                case .deliver(let parcel):
                    guard let delivery = parcel.take() else { continue }
                    if new.isAborting { delivery.finish(.aborted) } else { engine.start(parcel.profile, delivery, .now) }
                case .flush(let flush): engine.add(flush)
                case .probe(let probe): new.isAborting ? probe.finish(.aborted) : engine.probe(probe)
                }
            }
            engine.sendBatches()
            if new.isClosing { return }
        }
    }
}

/// Watches sockets with an epoll of its own; on the thread of the transfers only.
private final class SocketPoller: SocketEvents {
    /// No watch has it.
    private static let wakeupKey = UInt64.max

    private let poller: Poller
    private var watches: [UInt64: SocketWatch] = [:]
    private var readyCount = 0

    /// - Parameter wakeup: ends a wait.
    init(_ wakeup: Wakeup) throws(SystemError) {
        poller = try Poller()
        try poller.add(wakeup.descriptor, .readable, key: Self.wakeupKey)
    }

    func begin(_ watch: SocketWatch) throws(SystemError) {
        try poller.add(watch.socket, watch.interest, key: watch.key)
        watches[watch.key] = watch
    }

    func change(_ watch: SocketWatch) throws(SystemError) { try poller.modify(watch.socket, watch.interest, key: watch.key) }

    func end(_ watch: SocketWatch) { if watches.removeValue(forKey: watch.key) != nil { poller.remove(watch.socket) } }

    /// Waits for events, or until the time has come.
    func wait(until time: MonotonicTime) { readyCount = poller.wait(until: time) }

    /// Tells the watches of the sockets that were ready.
    ///
    /// - Returns: whether the wakeup was signalled.
    func tell() -> Bool {
        var isWoken = false
        for index in 0..<readyCount {
            let event = poller[index]
            if event.key == Self.wakeupKey { isWoken = true } else { watches[event.key]?.isReady(for: event.ready) }
        }
        return isWoken
    }
}
