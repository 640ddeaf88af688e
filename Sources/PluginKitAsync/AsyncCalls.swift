import ConfigJSON
import LinuxSystem
import PluginKit

/// Makes an ``AsyncReceiver`` a `Receiver`: a task for each call, and the outcome of the task for its delivery.
///
/// A task that ignores its cancellation outlives the abort and even the instance: its delivery is finished without it, its late
/// outcome is dropped, and `HostAccess` keeps it from the gateway's table.
final class AsyncCalls<Sink: AsyncReceiver>: Receiver {
    static var name: String { Sink.name }
    static var version: String { Sink.version }
    static var configSchema: String { Sink.configSchema }

    private struct Call {
        /// Nil for a call that the gateway awaits no outcome of.
        let delivery: SharedDelivery?
        let task: Task<Void, Never>
    }

    private struct State {
        var isAborted = false
        /// The calls begun so far, which number them.
        var count = 0
        var calls: [Int: Call] = [:]
        /// Waiting flushes, each with the number of calls that were begun before it.
        var flushes: [(after: Int, flush: SharedDelivery)] = []

        /// Removes and returns the flushes for which no call is at work any more.
        mutating func takeFlushes() -> [SharedDelivery] {
            if flushes.isEmpty { return [] }
            let oldest = calls.keys.min() ?? .max
            defer { flushes.removeAll { $0.after < oldest } }
            return flushes.filter { $0.after < oldest }.map(\.flush)
        }
    }

    /// How long the end of an instance waits for cancelled tasks: half of what the gateway waits for `destroy`.
    private static var patience: Duration { .milliseconds(250) }

    private let sink: Sink
    private let host: GatewayHost
    private let state = Monitor(State())

    init(config: ConfigObject, host: GatewayHost) throws {
        sink = try Sink(config: config, host: host)
        self.host = host
    }

    func start() throws { try sink.start() }

    func deliver(_ profile: Profile, _ delivery: consuming Delivery) {
        let attempt = Attempt(number: delivery.attempt, progress: delivery.progress)
        // The task may outlive its delivery.
        host.retain(profile)
        begin(SharedDelivery(delivery)) { [sink, host] in
            defer { host.release(profile) }
            do { return try await sink.deliver(profile, attempt: attempt) } catch { return Outcome(error) }
        }
    }

    func drain() {
        begin(nil) { [sink] in
            await sink.drain()
            return .delivered
        }
    }

    func flush(_ flush: consuming Delivery) {
        let flush = SharedDelivery(flush)
        let ready = state.withLock { state in
            state.flushes.append((state.count, flush))
            return state.takeFlushes()
        }
        for flush in ready { flush.finish(.delivered) }
    }

    func abort() {
        let (calls, flushes) = state.withLock { state in
            state.isAborted = true
            defer { state.flushes = [] }
            return (Array(state.calls.values), state.flushes)
        }
        for call in calls { call.delivery?.finish(.aborted) }
        for waiting in flushes { waiting.flush.finish(.aborted) }
        for call in calls { call.task.cancel() }
    }

    func close() {
        for call in state.withLock({ Array($0.calls.values) }) { call.task.cancel() }
        let deadline = MonotonicTime.now + Self.patience
        state.wait(until: deadline, for: \.calls.isEmpty)
        sink.close()
    }

    /// Begins a call in a task of its own.
    private func begin(_ delivery: SharedDelivery?, _ body: @escaping @Sendable () async -> Outcome) {
        let isAborted = state.withLock { state in
            state.count += 1
            let number = state.count
            // The task ends in `end`, which waits for this lock.
            state.calls[number] = Call(delivery: delivery, task: Task { [self] in end(number, await body()) })
            return state.isAborted
        }
        if isAborted { abort() }
    }

    private func end(_ number: Int, _ outcome: Outcome) {
        let (call, flushes) = state.withLock { state in
            let call = state.calls.removeValue(forKey: number)
            return (call, state.takeFlushes())
        }
        state.signal()
        call?.delivery?.finish(outcome)
        for flush in flushes { flush.finish(.delivered) }
    }
}

extension AsyncCalls: Probing where Sink: Probing {
    func probe(_ probe: consuming Delivery) { sink.probe(probe) }
}
