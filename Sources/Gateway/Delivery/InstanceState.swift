import LinuxSystem

/// A call into a plugin, as the log names it.
enum PluginCall: String, Sendable { case create, deliver, flush, abort, destroy }

/// What a receiver knows of one plugin instance: how far its life has come, and how its destination does.
///
/// A plain value: the receiver has the lock.
struct InstanceState {
    /// The steps of an instance's life, in order; some may be left out.
    enum Phase {
        /// `create` has not returned.
        case creating
        /// It was made, and is not put to work yet.
        case made
        /// It gets the receiver's profiles.
        case working
        /// It was replaced: it gets nothing new, and finishes what it has open.
        case retiring
        /// Its `flush` is open.
        case flushing
        /// Nothing is begun any more; it is destroyed once nothing is open.
        case stopping
        /// Its thread is in `destroy`.
        case destroying
        /// Nothing is waited for any more; a call that returns after all is its last one.
        case abandoned
        /// Its thread makes no more calls.
        case ended
    }

    private(set) var phase = Phase.creating
    var pace: Pace
    /// Its health by its own words.
    var stated = (health: Health.ok, reason: "")
    /// Why it is failing.
    var failingReason = ""
    var lastError = ""
    /// Why there is no instance, where `create` refused to make it after it was put to work.
    private(set) var refusal: String?
    /// The call from its own thread that has not returned, and when it began.
    private(set) var call: (name: PluginCall, since: MonotonicTime)?
    /// Since when `abort` has not returned; it must not be destroyed before.
    private(set) var abortSince: MonotonicTime?
    /// While its thread sleeps: when it wakes by itself.
    var sleepsUntil: MonotonicTime?
    /// What takes longer than `delivery_timeout`, for its health.
    var overdue: String?
    /// How many deliveries it has open; a flush does not count.
    private(set) var openDeliveries = 0
    /// How many operations it has open.
    private(set) var openOperations = 0
    /// What becomes of it as soon as it is made.
    private var next = Phase.made

    /// - Parameter maxInFlight: the most deliveries that may be open at a time.
    init(maxInFlight: Int, now: MonotonicTime) {
        pace = Pace(limit: maxInFlight)
        call = (.create, now)
    }

    // MARK: Life

    /// Puts it to work, at once or as soon as it is made.
    mutating func serve() {
        next = .working
        if phase == .made { phase = .working }
    }

    /// `create` has returned.
    ///
    /// - Parameter refusal: why it did not make an instance; nil when it did.
    mutating func created(_ refusal: String?) {
        (call, self.refusal, overdue) = (nil, refusal, nil)
        if refusal != nil { phase = .ended } else if phase == .creating { phase = next }
    }

    /// Gives it nothing new from here on.
    mutating func retire() {
        next = .stopping
        if phase == .working { phase = .retiring } else if phase == .made { phase = .stopping }
    }

    mutating func flushBegan() { phase = .flushing }

    /// Begins nothing any more; what is open may still finish.
    mutating func stop() {
        next = .stopping
        if [.made, .working, .retiring, .flushing].contains(phase) { phase = .stopping }
    }

    mutating func destroyBegan() { phase = .destroying }

    mutating func abandon() { if phase != .ended { phase = .abandoned } }

    mutating func ended() { (phase, call) = (.ended, nil) }

    // MARK: Calls and operations

    mutating func began(_ name: PluginCall, _ now: MonotonicTime) { call = (name, now) }

    /// Its thread is back from whatever it was at.
    mutating func returned() { (call, sleepsUntil) = (nil, nil) }

    mutating func abortBegan(_ now: MonotonicTime) { abortSince = now }
    mutating func abortReturned() { abortSince = nil }

    mutating func opened(_ operation: OpenDeliveries.Operation) { count(operation, 1) }
    mutating func closed(_ operation: OpenDeliveries.Operation) { count(operation, -1) }

    private mutating func count(_ operation: OpenDeliveries.Operation, _ change: Int) {
        openOperations += change
        if case .delivery = operation { openDeliveries += change }
    }

    /// The call that has been under way longest, and since when.
    var oldestCall: (name: PluginCall, since: MonotonicTime)? {
        guard let abortSince, abortSince < call?.since ?? .never else { return call }
        return (.abort, abortSince)
    }

    /// How long `create` may take before its receiver is started without it.
    static let createTime = Duration.seconds(3)

    /// What takes too long: a call, or an operation that was opened at `oldest`.
    ///
    /// - Returns: how long that is, and what it is; nil when nothing does.
    func late(_ oldest: MonotonicTime?, _ deliveryTimeout: Duration, now: MonotonicTime) -> (what: String, since: MonotonicTime)? {
        let limit = phase == .creating ? Self.createTime : deliveryTimeout
        if let call = oldestCall, call.since + limit <= now { return (call.name.rawValue, call.since) }
        guard let oldest, oldest + limit <= now else { return nil }
        return ("delivery", oldest)
    }

    /// Its own failure, where it has one.
    var failure: String? {
        if phase == .creating { return "create of the plugin has not returned" }
        return refusal ?? overdue ?? (pace.isFailing ? failingReason : nil)
    }
}
