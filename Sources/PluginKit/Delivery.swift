import LinuxSystem
import PluginABI

/// The outcome of one delivery attempt; as a thrown error, it is the outcome of the call that threw it.
public enum Outcome: Error {
    /// Stored or accepted by the destination.
    case delivered
    /// Transient: the gateway may deliver the profile again after at least `after`, and then passes `progress` again.
    case retry(String, after: Duration = .zero, progress: UInt64 = 0, httpStatus: Int = 0)
    /// Permanent for this profile. `senderMessage` is the destination's own message, without secrets; the sender gets it if the
    /// listener waits for the outcome before it responds.
    case rejected(String, httpStatus: Int = 0, senderMessage: String = "")
    /// Aborted because of ``Receiver/abort()``.
    case aborted

    /// The outcome that an error stands for: itself when it is one, else a retry with the error's text as the reason.
    package init(_ error: any Error) { self = error as? Outcome ?? .retry("\(error)") }
}

/// What the gateway knows of one delivery attempt.
public struct Attempt: Sendable {
    /// The number of the attempt; 1 for the first.
    public let number: Int
    /// The `progress` of the last attempt's outcome; 0 at first.
    public let progress: UInt64

    package init(number: Int, progress: UInt64) { (self.number, self.progress) = (number, progress) }
}

/// One attempt to deliver a profile; finished exactly once, from any thread.
///
/// The compiler prevents a second finish. A delivery that is dropped without an outcome is reported as rejected.
@safe public struct Delivery: ~Copyable, Sendable {
    private let access: HostAccess
    private nonisolated(unsafe) let token: UnsafeMutableRawPointer?
    private var isFinished = false
    /// The number of the attempt; 1 for the first.
    public let attempt: Int
    /// The `progress` of the last attempt's outcome; 0 at first.
    public let progress: UInt64

    init(_ access: HostAccess, token: UnsafeMutableRawPointer?, attempt: Int = 1, progress: UInt64 = 0) {
        self.access = access
        unsafe self.token = unsafe token
        self.attempt = attempt
        self.progress = progress
    }

    deinit { if !isFinished { send(.rejected("the plugin dropped the delivery without an outcome")) } }

    /// Reports the outcome. After this, neither the profile nor its bytes may be accessed.
    public consuming func finish(_ outcome: Outcome) {
        send(outcome)
        isFinished = true
    }

    private func send(_ outcome: Outcome) {
        var result = unsafe gw_outcome()
        unsafe result.size = MemoryLayout<gw_outcome>.size
        var (text, message) = ("", "")
        switch outcome {
        case .delivered: unsafe result.status = .delivered
        case .aborted: unsafe result.status = .aborted
        case .retry(let reason, let after, let progress, let httpStatus):
            unsafe result.status = .retry
            unsafe result.retry_after_ns = UInt64(max(0, after.inNanoseconds))
            unsafe result.progress = progress
            unsafe result.http_status = UInt32(clamping: httpStatus)
            text = reason
        case .rejected(let reason, let httpStatus, let senderMessage):
            unsafe result.status = .rejected
            unsafe result.http_status = UInt32(clamping: httpStatus)
            (text, message) = (reason, senderMessage)
        }
        unsafe text.withSlice { reason in
            unsafe message.withSlice { message in
                unsafe (result.reason, result.sender_message) = unsafe (reason, message)
                access.use { host in unsafe host.pointee.finish(host.pointee.context, token, &result) }
            }
        }
    }
}
