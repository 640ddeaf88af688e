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
    private var readiness: DeliveryLoop.Handler?
    private var timeout: DeliveryLoop.Handler?
    private var abortion: DeliveryLoop.Handler?

    init(_ config: WriterConfig, _ host: GatewayHost, _ loop: DeliveryLoop) throws(SystemError) {
        self.loop = loop
        engine = try TransferEngine(config, host, wakeup: nil)
        let readiness = DeliveryLoop.Handler { [unowned self] in turn() }
        self.readiness = readiness
        timeout = DeliveryLoop.Handler { [unowned self] in
            nextTurn = .never
            turn()
        }
        abortion = DeliveryLoop.Handler { [unowned self] in engine.abort() }
        let code = loop.watch(engine.descriptor, readiness)
        guard code == 0 else { throw SystemError("watch the connections", code: code) }
        schedule(engine.nextTurn)
    }

    func start(_ dispatch: Dispatch) {
        let now = MonotonicTime.now
        engine.start(dispatch, now)
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

    func flush(_ flush: SharedDelivery) { engine.add(flush) }

    func abort() { if let abortion { loop.set(Timer.abort, after: .zero, abortion) } }

    func end() {
        _ = loop.watch(engine.descriptor, nil)
        guard let timeout, let abortion else { return }
        loop.set(Timer.turn, after: nil, timeout)
        loop.set(Timer.abort, after: nil, abortion)
    }

    private func turn() {
        _ = engine.turn(until: MonotonicTime(nanoseconds: 0))
        engine.sendBatches()
        schedule(engine.nextTurn)
    }

    private func schedule(_ next: MonotonicTime) {
        guard next < nextTurn, let timeout else { return }
        nextTurn = next
        loop.set(Timer.turn, after: max(.zero, next.since(.now)), timeout)
    }
}
