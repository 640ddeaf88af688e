import Glibc
import LinuxSystem
import PluginABI
import PluginHost
import Profiles
import Synchronization
import Telemetry

/// One plugin instance under test, and what it has told.
final class PluginSession {
    /// Records the calls that the plugin makes to the gateway.
    final class Events: PluginEvents {
        struct State {
            var outcomes: [UInt: DeliveryOutcome] = [:]
            var breaches: [String] = []
            /// What the plugin has logged, but for details.
            var messages: [String] = []
        }

        let state = Monitor(State())
        /// Wakes the thread where it waits for descriptors of the plugin.
        let wake = Mutex<(@Sendable () -> Void)?>(nil)

        func finish(_ token: UInt, _ outcome: DeliveryOutcome) {
            state.withLock { state in
                if state.outcomes[token] != nil { state.breaches.append("an operation was finished twice") }
                state.outcomes[token] = outcome
            }
            signal()
        }

        func pluginMisbehaved(_ breach: PluginBreach) { state.withLock { $0.breaches.append(breach.what) } }
        func pluginStated(_ health: Health, _ reason: String) {}
        func pluginLogged(_ level: Log.Level, _ message: String) {
            if level >= .info { state.withLock { if $0.messages.count < 1000 { $0.messages.append(message) } } }
        }
        func timerSet() {
            // With the lock, so that the signal does not come between a look at the timers and the sleep after it.
            state.withLock { _ in }
            signal()
        }

        private func signal() {
            state.signal()
            wake.withLock { $0 }?()
        }

        func pluginEnded(_ end: PluginEnd) {
            state.withLock { $0.breaches.append("its process ended: \(end.how)") }
            signal()
        }
    }

    let events = Events()
    let instance: PluginInstance
    private var lastToken: UInt = 0
    /// The profiles that were delivered, which the plugin may use until it has finished them.
    private var profiles: [ReceivedProfile] = []

    static let facts = InstanceFacts(
        receiver: "check", gatewayVersion: RunningGateway.version, maxInFlight: 64, deliveryTimeout: .seconds(60), makeDirectory: { nil })

    init(_ library: PluginLibrary, _ config: String) throws(PluginInstance.Refusal) {
        let host = HostServices(events: events, metrics: PluginMetrics(of: library.name), facts: Self.facts)
        let instance = try PluginInstance(library, config: config, host: host)
        self.instance = instance
        events.wake.withLock { $0 = { [weak instance] in instance?.wake() } }
    }

    /// Makes an instance in a process of its own.
    init(
        isolated file: PluginFile, _ config: String, references: Set<String> = [], _ facts: InstanceFacts = facts,
        _ isolation: ProcessIsolation = ProcessIsolation()
    ) throws(PluginInstance.StartError) {
        let host = HostServices(events: events, metrics: PluginMetrics(), descriptors: PluginDescriptors(limit: .max))
        instance = try PluginInstance(
            file, config: config, references: references, facts, isolation, createTime: .seconds(10), host: host)
    }

    /// Hands over a profile.
    ///
    /// - Returns: the token of the delivery.
    func deliver(_ profile: ReceivedProfile) -> UInt {
        lastToken += 1
        profiles.append(profile)
        instance.deliver(profile, token: lastToken, attempt: 1, progress: 0)
        return lastToken
    }

    func flush() -> UInt {
        lastToken += 1
        instance.flush(token: lastToken)
        return lastToken
    }

    /// Lets the plugin connect and authenticate.
    func probe() -> UInt {
        lastToken += 1
        instance.probe(token: lastToken)
        return lastToken
    }

    /// Waits until operations are finished, and makes the calls of the plugin's timers and descriptors meanwhile.
    ///
    /// - Returns: the number of those that are not when the time is over.
    func open(of tokens: [UInt], after time: Duration) -> Int {
        let deadline = MonotonicTime.now + time
        let step = { [instance] (state: inout Events.State) -> WaitStep<Int?> in
            let open = tokens.count { state.outcomes[$0] == nil }
            if open == 0 || MonotonicTime.now >= deadline { return .done(open) }
            return instance.nextTimer <= .now ? .done(nil) : .again(min(deadline, instance.nextTimer))
        }
        while true {
            let open: Int?
            if instance.watchesDescriptors {
                switch events.state.withLock(step) {
                case .done(let result): open = result
                case .again(let time):
                    if instance.wait(until: time) { instance.callReady() }
                    continue
                }
            } else {
                open = events.state.wait(step)
            }
            if let open { return open }
            instance.fireTimer(now: .now)
        }
    }

    /// Ends the instance in order: flush, then destroy.
    ///
    /// - Returns: what went wrong; nil when nothing did.
    func end(flushes: Bool, within time: Duration) -> String? {
        if flushes, open(of: [flush()], after: time) > 0 { return "flush was not finished in time" }
        instance.destroy()
        return breach
    }

    /// The first breach of the contract; nil when there was none.
    var breach: String? { events.state.withLock { $0.breaches.first } }

    func outcome(of token: UInt) -> DeliveryOutcome? { events.state.withLock { $0.outcomes[token] } }

    /// What the plugin has logged, but for details.
    var messages: [String] { events.state.withLock { $0.messages } }

    /// The outcomes of deliveries in words: `3 delivered, 1 retry`.
    func outcomes(of tokens: [UInt]) -> String {
        let statuses = events.state.withLock { state in tokens.compactMap { state.outcomes[$0]?.status } }
        return [DeliveryOutcome.Status.delivered, .retry, .rejected, .aborted].compactMap { status in
            let count = statuses.count { $0 == status }
            return count == 0 ? nil : "\(count) \(status)"
        }.joined(separator: ", ")
    }
}

/// The profiles that a plugin is given by `gateway plugin check`.
enum CheckProfiles {
    /// Every kind, by what is special about it.
    static let kinds: [(name: String, make: @Sendable () -> ReceivedProfile)] = [
        ("a small profile", { small() }),
        ("a profile without a byte", { profile([0]) }),
        ("a profile of 64 MiB", { profile([64 << 20]) }),
        ("a profile with 10,000 labels", { profile([100]) { $0.labels = labels(10_000) } }),
        (
            "labels, path and tenant that are not ASCII",
            {
                profile([100]) { content in
                    content.labels = LabelSet(
                        sorted: [Label(name: "__name__", value: "caf\u{e9} \u{1F525}"), Label(name: "\u{e9}\"\\", value: "a\nb")])
                    content.tenant = "t\u{e9}nant"
                }
            }
        ),
        ("a Push with 200 samples", { profile([Int](repeating: 50, count: 200), api: .push) }),
        ("a Push without a sample", { profile([], api: .push) }),
    ]

    static func small() -> ReceivedProfile { profile([1000]) }

    private static func labels(_ count: Int) -> LabelSet {
        LabelSet(sorted: (0..<count).map { Label(name: "label\(String($0 + 1_000_000).dropFirst())", value: "value \($0)") })
    }

    private static func profile(
        _ sizes: [Int], api: Api = .ingest, _ change: (inout ProfileContent) -> Void = { _ in }
    ) -> ReceivedProfile {
        var (samples, start): ([ProfileContent.Sample], Int) = ([], 0)
        for (index, size) in sizes.enumerated() {
            samples.append(ProfileContent.Sample(id: api == .push ? "sample-\(index)" : "", range: start..<(start + size)))
            start += size
        }
        var content = ProfileContent(
            api: api == .push ? .push : .ingest, receivedAt: MonotonicTime.unixNanoseconds,
            path: api == .push ? "/push.v1.PusherService/Push" : "/ingest", format: .folded, samples: samples)
        content.labels = LabelSet(
            sorted: [Label(name: "__name__", value: "process_cpu"), Label(name: "service_name", value: "gateway-plugin-check")])
        content.query = api == .push ? "" : "name=gateway-plugin-check"
        change(&content)
        return ReceivedProfile(content, body: body(of: start))
    }

    /// Lines of the folded format, cut at `count` bytes.
    private static func body(of count: Int) -> ByteBuffer {
        var body = ByteBuffer()
        let lines = [UInt8](String(repeating: "main;work 1\n", count: 5000).utf8)
        do throws(SystemError) {
            try body.reserve(count)
            while body.count < count { try unsafe body.append(lines.span.bytes.extracting(first: count - body.count)) }
        } catch {
            // Without memory the rule cannot be tried; its process ends, which is told with the step.
            _exit(1)
        }
        return body
    }

    private enum Api { case ingest, push }
}
