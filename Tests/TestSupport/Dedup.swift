/// Helpers of the tests of `dedup_window`.
enum Dedup {
    static let long = "\"dedup_window\": \"10m\","
    static let delivered = long + "\"ack\": \"delivered\","

    /// The member of an endpoint that may hold its answer for long.
    static let patient = #""remote_timeout": "10m""#

    /// Starts a gateway with one receiver.
    ///
    /// - Parameter listeners: further members of each listener.
    static func gateway(
        _ scenario: Scenario, _ upstream: Recorder, _ listeners: [String: String] = ["default": long], http: String = "",
        receiver: String = ReceiverEntry.quickRetry, more: String = ""
    ) throws -> GatewayProcess {
        let entries = listeners.sorted { $0.key < $1.key }.map {
            GatewayProcess.listener(["up"], http: http, more: $0.value, name: $0.key)
        }
        let receivers = ["up": ReceiverEntry.endpoint(upstream.url, patient, more: receiver)]
        return try GatewayProcess(scenario, GatewayProcess.config(listeners: entries.joined(), receivers: receivers, more: more))
    }

    /// Runs a test against a gateway with one listener and one upstream.
    static func run(
        _ more: String = long, http: String = "", receiver: String = ReceiverEntry.quickRetry, top: String = "",
        _ body: (GatewayProcess, Recorder) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try body(try gateway(scenario, upstream, ["default": more], http: http, receiver: receiver, more: top), upstream)
        }
    }

    /// Waits until the queue is empty.
    @discardableResult
    static func settle(_ gateway: GatewayProcess) throws -> Metrics {
        try gateway.waitForMetrics("empty queues") { $0.queued("up") == 0 }
    }
}

extension Metrics {
    func deduplicated(_ listener: String = "default") -> Int {
        self["gateway_requests_deduplicated_total{listener=\"\(listener)\"}"]
    }
}
