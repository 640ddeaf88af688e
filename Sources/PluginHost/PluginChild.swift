import Glibc
import LinuxSystem
import Profiles
import Synchronization
import Telemetry

/// The process of one plugin instance: it receives calls from the gateway and makes them.
///
/// The main thread receives messages. The instance's own thread makes the calls but `abort`, in the order in which they came.
package final class PluginChild: Sendable {
    /// The internal command that runs it.
    package static let command = "plugin-process"

    /// The handlers of fatal signals use the notes until the process ends.
    private static let kept = Mutex<[SharedMapping]>([])

    private let channel: PluginChannel
    private let calls = Monitor<[PluginMessage]>([])
    private let instance = Mutex<PluginInstance?>(nil)
    /// How many calls of `abort` have not returned; the instance must not be destroyed before.
    private let aborts = Monitor(0)
    /// Whether timers are fired: not before the instance is at work.
    private let isAtWork = Atomic<Bool>(false)
    private let profiles: SharedMapping
    private let events: ChildEvents
    /// How long the main thread waits for messages before it sends what was put aside, in milliseconds.
    private static let pause: Int32 = 100

    /// Runs until the gateway ends; the socket, the memory with the profiles and that with the notes are the descriptors 3 to 5.
    ///
    /// - Parameter parent: the gateway's process.
    /// - Returns: the exit status.
    package static func run(parent: Int32) -> Int32 {
        ProcessRestriction.ignoreEndSignals()
        ProcessRestriction.endWithParent(parent)
        ProcessRestriction.closeDescriptors(from: 6)
        do throws(SystemError) {
            let child = try PluginChild(FileDescriptor(owning: 3), FileDescriptor(owning: 4), FileDescriptor(owning: 5))
            return child.receive(parent: parent)
        } catch {
            Log.error("the process of a plugin cannot be started", ["error": "\(error)"])
            return 1
        }
    }

    private init(_ socket: consuming FileDescriptor, _ profiles: borrowing FileDescriptor, _ notes: borrowing FileDescriptor)
        throws(SystemError)
    {
        channel = PluginChannel(socket, longest: PluginMessage.longestToPlugin)
        events = ChildEvents(channel, calls)
        self.profiles = try SharedMapping(profiles, count: ProfileMemory.size, isWritable: false)
        let mapping = try SharedMapping(notes, count: CrashGuard.size)
        unsafe CrashGuard.begin(mapping.address, copyingTo: nil)
        Self.kept.withLock { $0.append(mapping) }
    }

    // MARK: The main thread

    private func receive(parent: pid_t) -> Int32 {
        while true {
            switch channel.receive(waiting: Self.pause) {
            case .messages(let messages): for message in messages { take(message, parent) }
            case .nothingYet: break
            // Without the gateway there is nobody to work for, and the plugin's threads may still run.
            case .ended:
                CrashGuard.processEnds()
                _exit(0)
            }
            try? channel.flush()
        }
    }

    private func take(_ message: PluginMessage, _ parent: pid_t) {
        switch message {
        case .create(let start):
            do throws(SystemError) {
                try restrict(start, parent)
                try Thread.detached("plugin") { [self] in run(start) }
            } catch { fail(.notLoaded("the process cannot be restricted: \(error)")) }
        case .abort: abort()
        case .deliver, .flush, .destroy, .start, .drain, .probe:
            calls.withLock { $0.append(message) }
            calls.signal()
            instance.withLock { $0 }?.wake()
        default: break
        }
    }

    /// Calls `abort` on a separate thread, because it may not return.
    private func abort() {
        guard let instance = instance.withLock({ $0 }) else { return }
        aborts.withLock { $0 += 1 }
        let returned: @Sendable () -> Void = { [self] in
            aborts.withLock { $0 -= 1 }
            aborts.signal()
        }
        do throws(SystemError) {
            try Thread.detached("abort") {
                instance.abort()
                returned()
            }
        } catch {
            Log.error("plugin cannot be told to abort", ["plugin": instance.name, "error": "\(error)"])
            returned()
        }
    }

    private func restrict(_ start: PluginStart, _ parent: pid_t) throws(SystemError) {
        // The plugin's threads are started later, and have the priority of this one.
        if start.hasLowPriority { ThreadPriority.background(nice: 10).apply() }
        try ProcessRestriction.limitDescriptors(to: start.files)
        if let user = start.user { try ProcessRestriction.become(user: user.id, group: user.group) }
        ProcessRestriction.endWithParent(parent)
        try ProcessRestriction.refuseNewPrivileges()
        PluginDescriptors.process.change(limit: max(1, start.files - Self.ownDescriptors))
    }

    /// The descriptors that the process needs for itself.
    private static let ownDescriptors = 16

    /// Sends why there is no instance, or that none was asked for, and ends.
    private func fail(_ message: PluginMessage) {
        try? channel.send(message)
        CrashGuard.processEnds()
        _exit(0)
    }

    // MARK: The instance's thread

    private func run(_ start: PluginStart) {
        let record = CallRecord(receiver: start.receiver)
        record?.name(start.path)
        guard let instance = create(start, record) else { return }
        self.instance.withLock { $0 = instance }
        events.wake.withLock { $0 = { [weak instance] in instance?.wake() } }
        try? channel.send(.created(instance.identity))
        while true {
            let call: PluginMessage
            switch nextCall(instance) {
            case .message(let message): call = message
            case .timer:
                record?.during(.timer) { instance.fireTimer(now: .now) }
                continue
            case .ready:
                record?.during(.ready) { instance.callReady() }
                continue
            }
            switch call {
            case .deliver(let token, let attempt, let progress, let sequence, let place):
                guard let profile = profile(at: place, sequence: sequence) else { continue }
                isAtWork.store(true, ordering: .relaxed)
                events.opened(UInt(token), profile)
                record?.during(.deliver, sequence: sequence) {
                    instance.deliver(profile, token: UInt(token), attempt: Int(attempt), progress: progress)
                }
            case .start:
                let result = record.map { $0.during(.start) { instance.start() } }
                if case .started? = result { isAtWork.store(true, ordering: .relaxed) }
                if case .failed(let problem)? = result { try? channel.send(.started(problem)) } else { try? channel.send(.started("")) }
            case .drain: record?.during(.drain) { instance.drain() }
            case .probe(let token):
                isAtWork.store(true, ordering: .relaxed)
                record?.during(.probe) { instance.probe(token: UInt(token)) }
            case .flush(let token): record?.during(.flush) { instance.flush(token: UInt(token)) }
            case .destroy: destroy(instance, record)
            default: break
            }
        }
    }

    /// Ends the instance and the process; the gateway kills the process when this takes too long.
    private func destroy(_ instance: PluginInstance, _ record: CallRecord?) -> Never {
        aborts.wait { $0 == 0 ? .done(()) : .again(.never) }
        record?.during(.destroy) { instance.destroy() }
        try? channel.flush()
        CrashGuard.processEnds()
        exit(0)
    }

    private enum NextCall {
        case message(PluginMessage)
        /// A timer is due.
        case timer
        /// Descriptors are ready.
        case ready
    }

    /// Waits for the next call.
    private func nextCall(_ instance: PluginInstance) -> NextCall {
        let step = { (calls: inout [PluginMessage]) -> WaitStep<NextCall> in
            let timer = self.isAtWork.load(ordering: .relaxed) ? instance.nextTimer : .never
            if timer <= .now { return .done(.timer) }
            return calls.isEmpty ? .again(timer) : .done(.message(calls.removeFirst()))
        }
        guard instance.watchesDescriptors else { return calls.wait(step) }
        // Descriptors get their turn beside calls that come without a pause.
        if instance.wait(until: MonotonicTime(nanoseconds: 0)) { return .ready }
        while true {
            switch calls.withLock(step) {
            case .done(let next): return next
            case .again(let time): if instance.wait(until: time) { return .ready }
            }
        }
    }

    private func create(_ start: PluginStart, _ record: CallRecord?) -> PluginInstance? {
        guard let record else { return nil }
        do throws(PluginLibrary.LoadError) {
            let name = PluginName(name: start.path, sha256: start.sha256.isEmpty ? nil : start.sha256)
            let library = try record.during(.load) { () throws(PluginLibrary.LoadError) in try PluginLibrary.load(name, from: []) }
            record.name(library)
            if start.config.isEmpty { fail(.created(library.identity)) }
            let host = HostServices(
                events: events, metrics: PluginMetrics(of: library.name, forwardingTo: ChildMetrics(channel)),
                references: Set(start.references), facts: InstanceFacts(start))
            do throws(PluginInstance.Refusal) {
                return try record.during(.create) { () throws(PluginInstance.Refusal) in
                    try PluginInstance(library, config: start.config, host: host)
                }
            } catch { fail(.refused(error.message)) }
        } catch { fail(.notLoaded("\(error)")) }
        return nil
    }

    /// The profile at a place, which is told to be free when the plugin no longer uses it.
    private func profile(at place: SharedPlace, sequence: UInt64) -> ReceivedProfile? {
        guard place.offset >= 0, place.count > 0, place.offset <= profiles.count - place.count else { return nil }
        let bytes = unsafe UnsafeRawBufferPointer(start: profiles.address + place.offset, count: place.count)
        let channel = channel
        let buffer = unsafe ByteBuffer(borrowing: bytes) { channel.putAside(.released(place)) }
        return ReceivedProfile.decode(buffer, at: 0, sequence: sequence)
    }
}

/// Passes what a plugin says on to the gateway.
private final class ChildEvents: PluginEvents {
    private let channel: PluginChannel
    /// The profiles of the open deliveries, which a plugin may use until it finishes them.
    private let open = Mutex<[UInt: ReceivedProfile]>([:])

    private let calls: Monitor<[PluginMessage]>
    /// Wakes the instance's thread where it waits for descriptors.
    let wake = Mutex<(@Sendable () -> Void)?>(nil)

    init(_ channel: PluginChannel, _ calls: Monitor<[PluginMessage]>) { (self.channel, self.calls) = (channel, calls) }

    func opened(_ token: UInt, _ profile: ReceivedProfile) { open.withLock { $0[token] = profile } }

    func finish(_ token: UInt, _ outcome: DeliveryOutcome) {
        // Released after the lock, and before the message that lets the gateway go on.
        _ = open.withLock { $0.removeValue(forKey: token) }
        try? channel.send(.finished(token: UInt64(token), outcome))
    }
    func pluginStated(_ health: Health, _ reason: String) { try? channel.send(.health(health, reason)) }
    func pluginLogged(_ level: Log.Level, _ message: String) { try? channel.send(.log(level, message)) }
    func timerSet() {
        // With the lock, so that the signal does not come between the thread's look at the timers and its sleep.
        calls.withLock { _ in }
        calls.signal()
        wake.withLock { $0 }?()
    }
    func pluginMisbehaved(_ breach: PluginBreach) { try? channel.send(.breach(breach)) }
    // The gateway tells of the end of a process; here is none in it.
    func pluginEnded(_ end: PluginEnd) {}
}

/// Passes a plugin's metrics on to the gateway, with the next outcome or after ``PluginChild/pause``.
private final class ChildMetrics: MetricForwarder {
    private let channel: PluginChannel

    init(_ channel: PluginChannel) { self.channel = channel }

    func declared(_ id: UInt32, _ kind: UInt32, name: String, help: String, labels: [MetricLabel]) {
        channel.putAside(.metric(id: id, kind: kind, name: name, help: help, labels: labels))
    }

    func observed(_ id: UInt32, _ value: Int64) { channel.putAside(.observed(id: id, value)) }
}

extension InstanceFacts {
    fileprivate init(_ start: PluginStart) {
        let directory = start.directory.isEmpty ? nil : start.directory
        self.init(
            receiver: start.receiver, gatewayVersion: start.gatewayVersion, maxInFlight: start.maxInFlight,
            deliveryTimeout: start.deliveryTimeout, makeDirectory: { directory })
    }
}
