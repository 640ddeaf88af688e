import Foundation

extension Scenario {
    private struct Shown: Decodable {
        let peer: String
    }

    /// The senders' addresses of all profiles in the spool, the oldest first.
    func peers() throws -> [String] {
        try shown("--limit", "0").map(\.sequence).sorted().map { sequence in
            let text = try queue("show", "\(sequence)", "--json").output.joined()
            return try JSONDecoder().decode(Shown.self, from: Data(text.utf8)).peer
        }
    }
}

extension GatewayProcess {
    /// Starts a gateway that keeps each profile in its spool, for its only destination is away.
    ///
    /// - Parameters:
    ///   - http: members of the listener's `http`.
    ///   - listener: further members of the listener.
    static func keeping(_ scenario: Scenario, http: String, listener: String = "", more: String = "") throws -> GatewayProcess {
        let (away, port) = try TestSocket.bound()
        scenario.atEnd { withExtendedLifetime(away) {} }
        let entry = ReceiverEntry.writer("http://127.0.0.1:\(port)")
        let listeners = Self.listener(["up"], http: http, more: listener)
        return try GatewayProcess(scenario, config(listeners: listeners, receivers: ["up": entry], more: "\"data_dir\": \"data\", \(more)"))
    }
}
