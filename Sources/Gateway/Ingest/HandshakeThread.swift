import LinuxSystem
import Synchronization

/// The thread that makes the steps of one loop's TLS handshakes, one at a time.
///
/// Handshakes cost more than anything else that an unknown client can cause. The thread has idle priority, so that established
/// senders do not wait for the handshakes of others. When the processors are so busy that the thread gets too little time, the
/// loop makes the steps itself, one a round.
struct HandshakeThread {
    private let loop: EventLoop
    private let worker: Worker<HandshakeStep>
    /// When the current step was handed over; nil while the thread is free.
    private var busySince: MonotonicTime?
    /// The thread gets no step before this time, because it was slow.
    private var restsUntil = MonotonicTime(nanoseconds: 0)

    /// How long a step may take before the loop makes others itself: many times the computing time of a step.
    private static let limit = Duration.milliseconds(50)
    /// How long the thread gets no step after one that took longer. It may be preempted while it holds a lock of the allocator,
    /// which other threads then wait for.
    private static let rest = Duration.seconds(1)

    /// - Parameter number: the loop's number, for the thread's name.
    init(of loop: EventLoop, _ number: Int) {
        self.loop = loop
        worker = Worker("handshakes \(number)", priority: .idle)
    }

    /// When the next step can be made, by the thread or by the loop.
    func nextTurn(now: MonotonicTime) -> MonotonicTime { busySince.map { $0 + Self.limit } ?? now }

    /// Hands a step to the thread, which posts it back to the loop when it has ended.
    ///
    /// - Returns: false when the loop must make the step itself.
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

    /// Notes that the current step has ended.
    mutating func becomesFree(now: MonotonicTime) {
        if let busySince, now >= busySince + Self.limit { restsUntil = now + Self.rest }
        busySince = nil
    }

    /// Ends the thread, and waits at most one second for the current step.
    func stop() { worker.stop(until: .now + .seconds(1)) }
}

/// One step of a handshake. It owns the connection's transport meanwhile, so the socket of a connection that is closed stays open
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

    /// Makes the step: computes, and reads and writes as much as the socket takes without waiting.
    func make() { state.withLock { $0.result = $0.transport.handshake() } }

    /// Gives the transport back; to be called once.
    func takeTransport() -> Transport { state.withLock { $0.transport.take() } }

    /// The result of the step.
    var result: TLSSession.Handshake { state.withLock { $0.result } }
}
