import LinuxSystem
import Synchronization

/// The thread that makes the steps of one loop's TLS handshakes, one at a time; used by the loop's thread.
///
/// Handshakes cost more than anything else that a stranger can cause. The thread runs only when no other thread wants to, so that
/// senders that are already served do not wait for the arithmetic of new ones. Where the processors are so busy that it gets too
/// little of them, the loop makes the steps, one a round.
///
/// The thread may be interrupted for long at any point, so the loop waits for no lock that it could hold: each step is claimed and
/// ended by atomic values, and the thread is given a step only while it waits for one.
final class HandshakeThread {
    private let loop: EventLoop
    private let name: String
    private let shared: Shared
    private var thread: Thread?
    /// The step that the thread was given, and the time at which it was.
    private var current: (step: HandshakeStep, since: MonotonicTime)?
    /// Whether the thread has begun the step, as far as is known.
    private var isBegun = false
    /// The thread gets no step before this time, because it was slow.
    private var restsUntil = MonotonicTime(nanoseconds: 0)

    /// The time that a step may take on the thread, after which the loop makes others: many times what a step computes.
    private static let limit = Duration.milliseconds(50)
    /// The time for which a thread that was slow gets no step: it may hold a lock of the allocator while it is interrupted.
    private static let rest = Duration.seconds(1)
    private static let patience = Duration.seconds(1)

    private final class Shared: Sendable {
        let hasStep = Semaphore()
        /// Written by the loop while the thread waits, and taken by the thread afterwards.
        let step = Mutex<HandshakeStep?>(nil)
        let isWaiting = Atomic<Bool>(true)
        let isStopping = Atomic<Bool>(false)
        let hasEnded = Monitor(false)
    }

    /// - Parameter number: the loop's number, for the thread's name.
    init(of loop: EventLoop, _ number: Int) {
        (self.loop, name, shared) = (loop, "handshakes \(number)", Shared())
    }

    /// The next time at which something is to be done for handshakes.
    ///
    /// - Parameter areDue: whether a handshake waits for its next step.
    func nextTurn(_ areDue: Bool, now: MonotonicTime) -> MonotonicTime {
        guard let current else { return areDue ? now : .never }
        return areDue || !isBegun ? current.since + Self.limit : .never
    }

    /// Takes a step over; the loop is woken at its end.
    ///
    /// - Returns: false when the loop must make it.
    func accept(_ step: HandshakeStep) -> Bool {
        let now = MonotonicTime.now
        guard current == nil, now >= restsUntil, start(), shared.isWaiting.load(ordering: .acquiring) else { return false }
        (current, isBegun) = ((step, now), false)
        shared.isWaiting.store(false, ordering: .relaxed)
        shared.step.withLock { $0 = step }
        shared.hasStep.signal()
        return true
    }

    private func start() -> Bool {
        if thread != nil { return true }
        do throws(SystemError) {
            thread = try Thread(name) { [shared, loop] in Self.run(shared, loop) }
            return true
        } catch { return false }
    }

    private static func run(_ shared: Shared, _ loop: EventLoop) {
        ThreadPriority.idle.apply()
        while true {
            shared.hasStep.wait()
            if shared.isStopping.load(ordering: .acquiring) { break }
            if let step = shared.step.withLock({ $0.take() }), step.claim() { step.make() }
            shared.isWaiting.store(true, ordering: .releasing)
            loop.wake()
        }
        shared.hasEnded.withLock { $0 = true }
        shared.hasEnded.signal()
    }

    /// Gives back the step that the thread has made, once.
    func takeMade() -> HandshakeStep? {
        guard let (step, since) = current, step.isMade, shared.isWaiting.load(ordering: .acquiring) else { return nil }
        if step.madeAt >= since + Self.limit { restsUntil = .now + Self.rest }
        current = nil
        return step
    }

    /// Gives back a step that the thread was given long ago and has not begun.
    func takeLate(now: MonotonicTime) -> HandshakeStep? {
        guard let (step, since) = current, !isBegun, since + Self.limit <= now else { return nil }
        guard step.claim() else {
            isBegun = true
            return nil
        }
        (current, restsUntil) = (nil, now + Self.rest)
        return step
    }

    /// Ends the thread, after the step that it makes; waits for that for a second at most.
    func stop() {
        guard let running = thread.take() else { return }
        shared.isStopping.store(true, ordering: .releasing)
        shared.hasStep.signal()
        let deadline = MonotonicTime.now + Self.patience
        if shared.hasEnded.wait(until: deadline, for: \.self) { running.join() } else { running.detach() }
    }
}

/// One step of a handshake; it owns the connection's transport meanwhile, so a connection that closes leaves its socket open
/// until the step has ended.
final class HandshakeStep: Sendable {
    let key: ConnectionKey
    private let state: Mutex<State>
    private let isClaimed = Atomic<Bool>(false)
    private let hasBeenMade = Atomic<Bool>(false)

    private struct State: ~Copyable {
        var transport: Transport
        var result = TLSSession.Handshake.gone
        var madeAt = MonotonicTime.never
    }

    init(_ key: ConnectionKey, _ transport: consuming Transport) {
        self.key = key
        state = Mutex(State(transport: transport))
    }

    /// Whether the caller is the first that asks, and is to make the step.
    func claim() -> Bool { isClaimed.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged }

    /// Computes, and reads and writes what the socket takes without waiting.
    func make() {
        state.withLock { state in
            state.result = state.transport.handshake()
            state.madeAt = .now
        }
        hasBeenMade.store(true, ordering: .releasing)
    }

    /// Whether ``make()`` has ended; the properties below are valid then.
    var isMade: Bool { hasBeenMade.load(ordering: .acquiring) }

    /// Gives the transport back, once.
    func takeTransport() -> Transport { state.withLock { $0.transport.take() } }

    var result: TLSSession.Handshake { state.withLock { $0.result } }
    var madeAt: MonotonicTime { state.withLock { $0.madeAt } }
}
