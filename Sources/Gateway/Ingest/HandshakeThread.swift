import LinuxSystem
import Synchronization

/// The thread that makes the steps of one loop's TLS handshakes, one at a time.
///
/// They cost more than all else that a stranger can cause. The thread runs when no other wants to, so that a sender who is
/// served already does not wait for the arithmetic of those who only say hello. Where the processors are so busy that it gets
/// too little of them, the loop makes the steps, one a round.
struct HandshakeThread {
    private let loop: EventLoop
    private let worker: Worker<HandshakeStep>
    /// Since when it has been making a step.
    private var busySince: MonotonicTime?
    /// Until when it gets no step, for it was slow.
    private var restsUntil = MonotonicTime(nanoseconds: 0)

    /// How long it may take for a step before the loop makes others: many times what a step computes.
    private static let limit = Duration.milliseconds(50)
    /// How long it gets no step after one that took longer: it may be interrupted while it holds a lock of the allocator's, and
    /// then others wait for it.
    private static let rest = Duration.seconds(1)

    /// - Parameter number: which loop it is of, for its name.
    init(of loop: EventLoop, _ number: Int) {
        self.loop = loop
        worker = Worker("handshakes \(number)", priority: .idle)
    }

    /// When the next step can be made, by the thread or by the loop.
    func nextTurn(now: MonotonicTime) -> MonotonicTime { busySince.map { $0 + Self.limit } ?? now }

    /// Takes a step over, after which the loop hears of it.
    ///
    /// - Returns: false when the loop must make it.
    mutating func take(_ step: HandshakeStep, now: MonotonicTime) -> Bool {
        guard busySince == nil, now >= restsUntil else { return false }
        do throws(SystemError) {
            try worker.submit(step) { [loop] steps in
                for step in steps {
                    step.make()
                    loop.post { $0.handshakeStepEnded(step) }
                }
            }
        } catch { return false }
        busySince = now
        return true
    }

    /// Notes that its step has ended.
    mutating func becomesFree(now: MonotonicTime) {
        if let busySince, now >= busySince + Self.limit { restsUntil = now + Self.rest }
        busySince = nil
    }

    /// Waits for the step that is being made, for a second at most.
    func stop() { worker.stop(until: .now + .seconds(1)) }
}

/// One step of a handshake; it owns the connection's transport meanwhile, so a connection that closes leaves its socket open
/// until the step has ended.
final class HandshakeStep: Sendable {
    let key: ConnectionKey
    private let state: Mutex<State>

    private struct State: ~Copyable {
        var transport: Transport
        var result = TLSSession.Handshake.gone
    }

    init(_ key: ConnectionKey, _ transport: consuming Transport) {
        self.key = key
        state = Mutex(State(transport: transport))
    }

    /// Computes, and reads and writes what the socket takes without waiting.
    func make() { state.withLock { $0.result = $0.transport.handshake() } }

    /// Gives the transport back, once.
    func takeTransport() -> Transport { state.withLock { $0.transport.take() } }

    /// What has come of the step.
    var result: TLSSession.Handshake { state.withLock { $0.result } }
}
