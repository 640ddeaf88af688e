import LinuxSystem
import PluginHost

/// A call into a plugin; the raw value is its name in the log.
enum PluginCall: String, Sendable { case create, deliver, flush, abort, destroy }

/// The state of one plugin instance: its phase, its calls, and the health of its destination.
///
/// A plain value, protected by the receiver's lock.
struct InstanceState {
    /// The phases of an instance's life, in order; some may be skipped.
    enum Phase {
        /// `create` has not returned.
        case creating
        /// It was created, but gets no profiles yet.
        case made
        /// It gets the receiver's profiles.
        case working
        /// It was replaced: it gets no new profiles, and finishes its open operations.
        case retiring
        /// Its `flush` is open.
        case flushing
        /// No operation is begun any more; it is destroyed once none is open.
        case stopping
        /// Its thread is in `destroy`.
        case destroying
        /// It is not waited for any more; if a call still returns, its thread makes no further call into the plugin.
        case abandoned
        /// Its thread makes no more calls.
        case ended
    }

    private(set) var phase = Phase.creating
    var pace: DeliveryPacing
    /// The health that the plugin has stated.
    var stated = (health: Health.ok, reason: "")
    /// The reason why it is failing.
    var failingReason = ""
    var lastError = ""
    /// The reason why `create` refused to make the instance; nil when it did not refuse.
    private(set) var refusal: String?
    /// The call of its own thread that has not returned, and the time at which it began.
    private(set) var call: (name: PluginCall, since: MonotonicTime)?
    /// The time at which `abort` was called, until it returns; the instance must not be destroyed before.
    private(set) var abortSince: MonotonicTime?
    /// The time until which its thread sleeps; nil while it is awake.
    private(set) var sleepsUntil: MonotonicTime?
    /// A description of a call or delivery that takes longer than `delivery_timeout`, for the health; nil when there is none.
    var overdue: String?
    /// The number of open deliveries, without a flush.
    private(set) var openDeliveries = 0
    /// The number of open operations.
    private(set) var openOperations = 0
    /// The phase that follows as soon as it is created.
    private var next = Phase.made

    /// - Parameter maxInFlight: the most deliveries that may be open at the same time.
    init(maxInFlight: Int, now: MonotonicTime) {
        pace = DeliveryPacing(limit: maxInFlight)
        call = (.create, now)
    }

    // MARK: Phases

    /// Lets it get profiles, at once or as soon as it is created.
    mutating func serve() {
        next = .working
        if phase == .made { phase = .working }
    }

    /// Notes that `create` has returned.
    ///
    /// - Parameter refusal: the reason why it did not make an instance; nil when it did.
    mutating func created(_ refusal: String?) {
        (call, self.refusal, overdue) = (nil, refusal, nil)
        if refusal != nil { phase = .ended } else if phase == .creating { phase = next }
    }

    /// Gives it no new profiles from here on.
    mutating func retire() {
        next = .stopping
        if phase == .working { phase = .retiring } else if phase == .made { phase = .stopping }
    }

    /// Notes that its thread calls `flush`, which is an open operation until it is finished.
    mutating func flushBegan(_ now: MonotonicTime) {
        (phase, call) = (.flushing, (.flush, now))
        count(.flush, 1)
    }

    /// Begins no more operations; open ones may still finish.
    mutating func stop() {
        next = .stopping
        if [.made, .working, .retiring, .flushing].contains(phase) { phase = .stopping }
    }

    mutating func destroyBegan(_ now: MonotonicTime) { (phase, call) = (.destroying, (.destroy, now)) }

    mutating func abandon() { if phase != .ended { phase = .abandoned } }

    mutating func ended() { (phase, call) = (.ended, nil) }

    // MARK: Calls and operations

    /// Notes that its thread calls `deliver`; the delivery is open until it is finished.
    mutating func deliveryBegan(isProbe: Bool, _ now: MonotonicTime) {
        call = (.deliver, now)
        openOperations += 1
        openDeliveries += 1
        if isProbe { pace.probeBegan() }
    }

    mutating func sleeps(until time: MonotonicTime) { sleepsUntil = time }

    /// Notes that its thread has returned from a call or woken up.
    mutating func returned() { (call, sleepsUntil) = (nil, nil) }

    mutating func abortBegan(_ now: MonotonicTime) { abortSince = now }
    mutating func abortReturned() { abortSince = nil }

    mutating func closed(_ operation: OpenDeliveries.Operation) { count(operation, -1) }

    private mutating func count(_ operation: OpenDeliveries.Operation, _ change: Int) {
        openOperations += change
        if case .delivery = operation { openDeliveries += change }
    }

    /// The call that has been running longest, and the time at which it began.
    var oldestCall: (name: PluginCall, since: MonotonicTime)? {
        guard let abortSince, abortSince < call?.since ?? .never else { return call }
        return (.abort, abortSince)
    }

    /// Checks whether a call takes too long, or an operation that was opened at `oldest`.
    ///
    /// - Returns: the name of the call or "delivery", and the time at which it began; nil when nothing is late.
    func late(_ oldest: MonotonicTime?, _ deliveryTimeout: Duration, now: MonotonicTime) -> (what: String, since: MonotonicTime)? {
        let limit = phase == .creating ? DeliveryThread.createTime : deliveryTimeout
        if let call = oldestCall, call.since + limit <= now { return (call.name.rawValue, call.since) }
        guard let oldest, oldest + limit <= now else { return nil }
        return ("delivery", oldest)
    }

    /// The reason why the instance has failed; nil when it has not.
    var failure: String? {
        if phase == .creating { return "create of the plugin has not returned" }
        return refusal ?? overdue ?? (pace.isFailing ? failingReason : nil)
    }
}

/// The states of a receiver's instances by their numbers: one instance, or two while a reload replaces it. A plain value.
///
/// ``change(_:_:)`` is for what is done for each profile: a change through the subscript allocates memory for its coroutine.
struct Instances {
    private var entries: [(number: Int, state: InstanceState?)] = []

    var count: Int { entries.count }
    /// The numbers, rising.
    var numbers: [Int] { entries.map(\.number).sorted() }

    /// The state of an instance; setting nil removes it.
    subscript(number: Int) -> InstanceState? {
        get { entries.first { $0.number == number }?.state }
        _modify {
            let index = entries.firstIndex { $0.number == number } ?? entries.count
            if index == entries.count { entries.append((number, nil)) }
            defer { if entries[index].state == nil { entries.remove(at: index) } }
            yield &entries[index].state
        }
    }

    /// Changes the state of an instance in place; returns nil where there is none.
    @discardableResult
    mutating func change<R>(_ number: Int, _ body: (inout InstanceState) -> R) -> R? {
        guard let index = entries.firstIndex(where: { $0.number == number }) else { return nil }
        // Taken out and put back, so that it is not copied.
        guard var state = entries[index].state.take() else { return nil }
        defer { entries[index].state = state }
        return body(&state)
    }
}
