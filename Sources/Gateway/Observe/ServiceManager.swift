import Glibc
import LinuxSystem
import Synchronization
import Telemetry

/// Reports the gateway's state to the service manager that started it, by sd_notify(3); does nothing when NOTIFY_SOCKET is not
/// set.
///
/// Never waits: a message that the manager does not take now is sent by ``sendAgain()``.
enum ServiceManager {
    private static let socket = variable("NOTIFY_SOCKET") ?? ""
    private struct State {
        /// The messages that have not been taken yet, in order.
        var unsent: [String] = []
        var isStopping = false
    }

    private static let state = Mutex(State())
    /// Bounds the memory when the manager takes nothing at all.
    private static let mostUnsent = 16

    static func isReady(_ status: String) { send("READY=1\nSTATUS=\(status)") }

    /// Reports that a reload has begun; ``isReady(_:)`` reports its end, whatever the result.
    static func isReloading() {
        send("RELOADING=1\nMONOTONIC_USEC=\(MonotonicTime.now.nanoseconds / 1000)\nSTATUS=Reading the config again")
    }

    /// Reports that the gateway has begun to stop; a reload that ends later reports nothing any more.
    static func isStopping() {
        send("STOPPING=1\nSTATUS=Stopping: finishing requests and delivering what is queued", isLast: true)
    }

    /// The longest time that the manager waits between two signs of life; nil when it wants none from this process.
    static let watchdogLimit: Duration? = {
        guard !socket.isEmpty, let microseconds = variable("WATCHDOG_USEC").flatMap({ Int64($0) }), microseconds > 0 else { return nil }
        if let process = variable("WATCHDOG_PID"), process != "\(getpid())" { return nil }
        return .microseconds(microseconds)
    }()

    /// Sends a sign of life. One that the manager does not take is not kept, for the next one comes soon.
    static func isAlive() {
        sendAgain()
        do throws(SystemError) { try Socket.sendDatagram(Array("WATCHDOG=1".utf8), to: socket) } catch {
            Log.debug("the service manager did not take a sign of life", ["error": "\(error)"])
        }
    }

    /// Sends the messages that have not been taken yet; called periodically.
    static func sendAgain() {
        guard state.withLock({ !$0.unsent.isEmpty }) else { return }
        sendAll()
    }

    private static func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }

    /// - Parameter isLast: true for the last message about the gateway's state.
    private static func send(_ message: String, isLast: Bool = false) {
        guard !socket.isEmpty else { return }
        state.withLock { state in
            guard !state.isStopping else { return }
            state.unsent = state.unsent.suffix(mostUnsent - 1) + [message]
            state.isStopping = isLast
        }
        sendAll()
    }

    private static func sendAll() {
        let failure: SystemError? = state.withLock { state in
            do throws(SystemError) {
                while let message = state.unsent.first {
                    try Socket.sendDatagram(Array(message.utf8), to: socket)
                    state.unsent.removeFirst()
                }
                return nil
            } catch { return error }
        }
        if let failure { Log.debug("a message to the service manager waits", ["error": "\(failure)"]) }
    }
}
