import LinuxSystem
import PluginHost

/// A call into a plugin; the raw value is its name in the log.
enum PluginCall: String, Sendable { case create, start, deliver, drain, timer, ready, flush, abort, destroy }

/// The state of one plugin instance: its phase, its calls, and the health of its destination.
///
/// Protected by the receiver's lock, which it does not leave. An object, because a plain value would be copied where it is only read.
final class InstanceState {
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
    let pace: DeliveryPacing
    /// The health that the plugin has stated.
    var stated = (health: Health.ok, reason: "")
    /// The reason why it is failing.
    var failingReason = ""
    var lastError = ""
    /// The reason why `create` refused to make the instance; nil when it did not refuse.
    private(set) var refusal: String?
    /// A description of a call or delivery that takes longer than `delivery_timeout`, for the health; nil when there is none.
    var overdue: String?
    /// Why it is down; empty when it is not, or has not been started yet.
    private var down = ""
    /// The call of its own thread that has not returned, and the time at which it began.
    private(set) var call: (name: PluginCall, since: MonotonicTime)?
    /// The time at which `abort` was called, until it returns; the instance must not be destroyed before.
    private(set) var abortSince: MonotonicTime?
    /// The time until which its thread sleeps; nil while it is awake.
    private(set) var sleepsUntil: MonotonicTime?
    /// The number of open deliveries, without a flush.
    private(set) var openDeliveries = 0
    /// The number of open operations.
    private(set) var openOperations = 0
    /// The time at which the last delivery began.
    private(set) var lastDelivery = MonotonicTime(nanoseconds: 0)
    /// The notes for the case of a crash.
    let record: CallRecord?
    /// While the plugin has not been started, or its process has ended: when it is started.
    private(set) var downUntil: MonotonicTime?
    var isDown: Bool { downUntil != nil }
    private var later = PluginIdentity.LaterFunctions()
    /// What `create` has made.
    private var instance: PluginInstance?
    /// When a timer of the plugin is due; `never` while the plugin has not been started.
    var nextTimer: MonotonicTime { downUntil == nil ? instance?.nextTimer ?? .never : .never }
    /// How often `start` has failed since it last succeeded.
    private var failedStarts = 0
    /// Whether `start` has succeeded, or its process ended after that.
    private(set) var hasStarted = false
    private var isDraining = false
    /// Whether the plugin is still to be told that few profiles follow.
    var wantsDrain: Bool { later.drain && !isDraining && downUntil == nil }
    private var ends = ProcessEnds()
    /// The phase that follows as soon as it is created.
    private var next = Phase.made

    /// - Parameter maxInFlight: the most deliveries that may be open at the same time.
    init(maxInFlight: Int, _ record: CallRecord? = nil, now: MonotonicTime) {
        pace = DeliveryPacing(limit: maxInFlight)
        self.record = record
        call = (.create, now)
    }

    // MARK: Phases

    /// Lets it get profiles, at once or as soon as it is created.
    func serve() {
        next = .working
        if phase == .made { phase = .working }
    }

    /// Notes that `create` has returned.
    ///
    /// - Parameter refusal: the reason why it did not make an instance; nil when it did.
    /// - Parameter instance: what `create` has made; nil when it refused.
    func created(_ refusal: String?, _ instance: PluginInstance? = nil) {
        (call, self.refusal, overdue) = (nil, refusal, nil)
        if let instance { (later, self.instance) = (instance.identity.later, instance) }
        if refusal != nil { phase = .ended } else if phase == .creating { phase = next }
        // A failure only when `start` has failed.
        if later.start { goesDown("", until: MonotonicTime(nanoseconds: 0)) }
    }

    /// Notes that the plugin's process has ended.
    ///
    /// - Returns: how long to wait before it is started again.
    func processEnded(_ end: PluginEnd, _ now: MonotonicTime) -> Duration {
        let wait = ends.add(end)
        goesDown("the plugin's process ended: \(end.how)", until: now + wait)
        (stated, overdue, call, isDraining) = ((.ok, ""), nil, nil, false)
        return wait
    }

    private func goesDown(_ why: String, until time: MonotonicTime) { (down, downUntil) = (why, time) }

    /// Notes that its thread starts the plugin's process again.
    func restartBegan(_ now: MonotonicTime) { call = (.start, now) }

    /// Notes that the plugin was started.
    func started() { (downUntil, failedStarts, hasStarted) = (nil, 0, true) }

    /// Notes that the plugin cannot work yet.
    ///
    /// - Returns: how long to wait before it is asked again: 1 s, and twice as long each time, up to 30 s.
    func startFailed(_ why: String, _ now: MonotonicTime) -> Duration {
        let wait = min(.seconds(30), Duration.seconds(1 << min(failedStarts, 5)))
        failedStarts += 1
        goesDown(why, until: now + wait)
        return wait
    }

    /// Notes that its thread tells the plugin that few profiles follow.
    func drainBegan(_ now: MonotonicTime) { (isDraining, call) = (true, (.drain, now)) }

    /// Notes that its thread makes the call of a timer.
    func timerBegan(_ now: MonotonicTime) { call = (.timer, now) }

    /// Notes that its thread, which has waited, makes the calls for descriptors that are ready.
    ///
    /// - Returns: false when it makes none any more.
    func readyBegan(_ now: MonotonicTime) -> Bool {
        guard phase != .abandoned else { return false }
        (call, sleepsUntil) = ((.ready, now), nil)
        return true
    }

    /// Whether it is to get no profiles any more.
    var isLeaving: Bool { next == .stopping || phase == .abandoned }

    /// Gives it no new profiles from here on.
    func retire() {
        next = .stopping
        if phase == .working { phase = .retiring } else if phase == .made { phase = .stopping }
    }

    /// Notes that its thread calls `flush`, which is an open operation until it is finished.
    func flushBegan(_ now: MonotonicTime) {
        (phase, call) = (.flushing, (.flush, now))
        count(.flush, 1)
    }

    /// Begins no more operations; open ones may still finish.
    func stop() {
        next = .stopping
        if [.made, .working, .retiring, .flushing].contains(phase) { phase = .stopping }
    }

    func destroyBegan(_ now: MonotonicTime) { (phase, call) = (.destroying, (.destroy, now)) }

    func abandon() { if phase != .ended { phase = .abandoned } }

    /// Notes that its thread makes no more calls. The instance refers to the receiver, which would keep itself by it.
    func ended() { (phase, call, instance) = (.ended, nil, nil) }

    // MARK: Calls and operations

    /// Notes that its thread calls `deliver`; the delivery is open until it is finished.
    func deliveryBegan(isProbe: Bool, _ now: MonotonicTime) {
        call = (.deliver, now)
        lastDelivery = now
        openOperations += 1
        openDeliveries += 1
        if isProbe { pace.probeBegan() }
    }

    func sleeps(until time: MonotonicTime) { sleepsUntil = time }

    /// Notes that its thread has returned from a call or woken up.
    func returned() { (call, sleepsUntil) = (nil, nil) }

    func abortBegan(_ now: MonotonicTime) { abortSince = now }
    func abortReturned() { abortSince = nil }

    func closed(_ operation: OpenDeliveries.Operation) { count(operation, -1) }

    private func count(_ operation: OpenDeliveries.Operation, _ change: Int) {
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
        return refusal ?? (isDown && !down.isEmpty ? down : nil) ?? overdue ?? (pace.isFailing ? failingReason : nil)
    }
}
