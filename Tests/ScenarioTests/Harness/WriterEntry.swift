extension ReceiverEntry {
    /// A writer with one endpoint that is named "up" and has more members than its URL.
    static func endpoint(_ url: String, _ members: String = "", more: String = quickRetry, config: String = "") -> String {
        "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(url)\", \"name\": \"up\", \(members) }], \(config) }, \(more)"
    }

    /// A retry clock that gives a profile one more attempt.
    static let oneRetry =
        "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"2ms\", \"max_backoff_retries\": 1 },"
}

extension GatewayProcess {
    /// A gateway whose one receiver is called "up".
    convenience init(_ scenario: Scenario, up entry: String) throws { try self.init(scenario, receivers: ["up": entry]) }

    /// Waits until the receiver "up" has delivered so many.
    func waitForDeliveries(_ count: Int) throws { try waitForMetrics("\(count) deliveries") { $0.delivered("up") == count } }

    /// Waits until the receiver "up" has rejected so many.
    func waitForRejections(_ count: Int) throws {
        try waitForMetrics("\(count) rejections") { $0.dropped("up", "rejected") == count }
    }
}

extension Metrics {
    func retries(_ receiver: String = "up") -> Int { self["gateway_retries_total{receiver=\"\(receiver)\"}"] }
}
