import HTTPServer
import ProfileAPI
import Receivers

/// The receivers and listeners that run under one config.
struct RunningSetup: Sendable {
    /// One entry of `receive_http`, with the objects that a reload keeps.
    struct RunningListener: Sendable {
        let config: ListenerConfig
        let listener: Listener
        let fanOut: FanOut
        let rates: RateLimiter?
        let profiles: ProfileCounters
    }

    var config = Config()
    var receivers: [Receiver] = []
    var runningListeners: [RunningListener] = []
    var admin: Listener?

    var listeners: [Listener] { runningListeners.map(\.listener) }
    var allListeners: [Listener] { listeners + [admin].compactMap(\.self) }

    func receiver(_ name: String) -> Receiver? { receivers.first { $0.name == name } }
    func running(_ name: String) -> RunningListener? { runningListeners.first { $0.config.name == name } }
}
