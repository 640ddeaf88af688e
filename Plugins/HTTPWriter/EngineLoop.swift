import LinuxSystem
import PluginKit

/// Runs the transfers of an instance on the gateway's delivery thread, so that no profile is passed from thread to thread.
///
/// `@unchecked`: all but ``abort()`` is called on the delivery thread alone.
final class EngineLoop: EngineRunner, @unchecked Sendable {
    /// The timers of the instance.
    private enum Timer {
        static let turn: UInt32 = 0
        static let abort: UInt32 = 1
    }

    private let loop: DeliveryLoop
    private let engine: TransferEngine
    /// When the timer for the next turn fires; it may fire too early.
    private var nextTurn = MonotonicTime.never
    private var afterReady: DeliveryLoop.Handler?
    private var timeout: DeliveryLoop.Handler?
    private var abortion: DeliveryLoop.Handler?

    init(_ config: WriterConfig, _ host: GatewayHost, _ loop: DeliveryLoop) throws(SystemError) {
        self.loop = loop
        engine = TransferEngine(config, host, LoopSockets(loop), InstanceHealth(host, endpoints: config.endpoints.map(\.name)))
        afterReady = DeliveryLoop.Handler { [unowned self] _ in endRound() }
        timeout = DeliveryLoop.Handler { [unowned self] _ in timeHasCome() }
        abortion = DeliveryLoop.Handler { [unowned self] _ in engine.abort() }
        let code = loop.callAfterReady(afterReady)
        guard code == 0 else { throw SystemError("watch the connections", code: code) }
        schedule(engine.nextTurn)
    }

    func start(_ profile: Profile, _ delivery: consuming Delivery) {
        let now = MonotonicTime.now
        engine.start(profile, delivery, now)
        go(now)
    }

    func probe(_ probe: SharedDelivery) {
        engine.probe(probe)
        go(.now)
    }

    private func go(_ now: MonotonicTime) {
        engine.sendBatches()
        // libcurl begins a transfer when it is given the time for it. The clock is read again only when that may have come meanwhile.
        var next = engine.nextTurn
        if next <= now + .milliseconds(1), case let now = MonotonicTime.now, next <= now {
            engine.act(now)
            engine.sendBatches()
            next = engine.nextTurn
        }
        schedule(next)
    }

    func flush(_ flush: SharedDelivery) { engine.add(SharedFlush(flush, parts: 1)) }

    func abort() { if let abortion { loop.set(Timer.abort, after: .zero, abortion) } }

    func end() {
        _ = loop.callAfterReady(nil)
        guard let timeout, let abortion else { return }
        loop.set(Timer.turn, after: nil, timeout)
        loop.set(Timer.abort, after: nil, abortion)
    }

    private func endRound() {
        engine.endRound()
        engine.sendBatches()
        schedule(engine.nextTurn)
    }

    private func timeHasCome() {
        nextTurn = .never
        engine.act(.now)
        engine.sendBatches()
        schedule(engine.nextTurn)
    }

    private func schedule(_ next: MonotonicTime) {
        guard next < nextTurn, let timeout else { return }
        nextTurn = next
        loop.set(Timer.turn, after: max(.zero, next.since(.now)), timeout)
    }
}

/// Has sockets watched by the gateway's delivery loop.
private final class LoopSockets: SocketEvents {
    private let loop: DeliveryLoop

    init(_ loop: DeliveryLoop) { self.loop = loop }

    func begin(_ watch: SocketWatch) throws(SystemError) {
        watch.handler = DeliveryLoop.Handler { ready in watch.isReady(for: Poller.Interest(rawValue: ready.rawValue)) }
        try change(watch)
    }

    func change(_ watch: SocketWatch) throws(SystemError) {
        let code = loop.watch(watch.socket, for: DeliveryLoop.Events(rawValue: watch.interest.rawValue), watch.handler)
        guard code == 0 else { throw SystemError("watch a socket", code: code) }
    }

    func end(_ watch: SocketWatch) {
        _ = loop.watch(watch.socket, for: [], nil)
        // The handler refers to the watch.
        watch.handler = nil
    }
}
