import LinuxSystem
import PluginABI

/// The outcome of one delivery attempt.
public enum Outcome: Sendable {
    /// Stored or accepted by the destination.
    case delivered
    /// Transient: the gateway may deliver the profile again after at least `after`, and then passes `progress` again.
    case retry(String, after: Duration = .zero, progress: UInt64 = 0, httpStatus: Int = 0)
    /// Permanent for this profile. `senderMessage` is the destination's own message, without secrets; the sender gets it if the
    /// listener waits for the outcome before it responds.
    case rejected(String, httpStatus: Int = 0, senderMessage: String = "")
    /// Aborted because of ``Receiver/abort()``.
    case aborted
}

/// One attempt to deliver a profile; finished exactly once, from any thread.
///
/// The compiler prevents a second finish. A delivery that is dropped without an outcome is reported as rejected.
@safe public struct Delivery: ~Copyable, Sendable {
    private nonisolated(unsafe) let host: UnsafePointer<gw_host>
    private nonisolated(unsafe) let token: UnsafeMutableRawPointer?
    /// The number of the attempt; 1 for the first.
    public let attempt: Int
    /// The `progress` of the last attempt's outcome; 0 at first.
    public let progress: UInt64

    init(host: UnsafePointer<gw_host>, token: UnsafeMutableRawPointer?, attempt: Int, progress: UInt64) {
        unsafe self.host = unsafe host
        unsafe self.token = unsafe token
        self.attempt = attempt
        self.progress = progress
    }

    deinit { unsafe Self.send(.rejected("the plugin dropped the delivery without an outcome"), host, token) }

    /// Reports the outcome. After this, neither the profile nor its bytes may be accessed.
    public consuming func finish(_ outcome: Outcome) {
        let (host, token) = unsafe (self.host, self.token)
        discard self
        unsafe Self.send(outcome, host, token)
    }

    private static func send(
        _ outcome: Outcome, _ host: UnsafePointer<gw_host>, _ token: UnsafeMutableRawPointer?
    ) {
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
                unsafe host.pointee.finish(host.pointee.context, token, &result)
            }
        }
    }
}
