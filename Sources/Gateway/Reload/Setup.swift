/// What runs under one config.
struct Setup: Sendable {
    /// One entry of `receive_http`, and what a reload keeps of it.
    struct Entrance: Sendable {
        let config: ListenerConfig
        let listener: Listener
        let fanOut: FanOut
        let rates: RateLimiter?
    }

    var config = Config()
    var receivers: [Receiver] = []
    var entrances: [Entrance] = []
    var admin: Listener?

    var listeners: [Listener] { entrances.map(\.listener) }
    var allListeners: [Listener] { listeners + [admin].compactMap(\.self) }

    func receiver(_ name: String) -> Receiver? { receivers.first { $0.name == name } }
    func entrance(_ name: String) -> Entrance? { entrances.first { $0.config.name == name } }
}

extension HTTPConfig {
    /// Whether a socket that listens for one is right for the other.
    func hasAddress(of other: HTTPConfig) -> Bool { address == other.address && port == other.port }
}
