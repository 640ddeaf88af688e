import Foundation
import Testing

extension ReceiverEntry {
    /// A writer with one endpoint, which is named "up" and has further members.
    static func endpoint(_ url: String, _ members: String = "", more: String = quickRetry, config: String = "") -> String {
        "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(url)\", \"name\": \"up\", \(members) }], \(config) }, \(more)"
    }

    /// A retry clock that allows one more attempt.
    static let oneRetry =
        "\"retry\": { \"min_backoff_period\": \"1ms\", \"max_backoff_period\": \"2ms\", \"max_backoff_retries\": 1 },"
}

/// A receiver with one endpoint, and whether its profiles should arrive.
struct Way: Sendable {
    let name: String
    let path: String
    let members: String
    let arrives: Bool

    /// - Parameter name: the name of the receiver, which is also the path after the upstream's URL.
    init(_ name: String, _ members: String, arrives: Bool = true) {
        (self.name, path, self.members, self.arrives) = (name, "/\(name)", members, arrives)
    }
}

extension GatewayProcess {
    /// Starts a gateway with one receiver, which is named "up".
    convenience init(_ scenario: Scenario, up entry: String) throws { try self.init(scenario, receivers: ["up": entry]) }

    /// Starts a gateway with a receiver for each way; each profile gets at most two attempts.
    convenience init(
        _ scenario: Scenario, _ ways: [Way], to url: (Way) -> String, environment: [String: String] = [:], listener: String = ""
    ) throws {
        let entries = ways.map { ($0.name, ReceiverEntry.endpoint(url($0) + $0.path, $0.members, more: ReceiverEntry.oneRetry)) }
        let config = Self.config(
            listeners: Self.listener(ways.map(\.name), more: listener), receivers: Dictionary(uniqueKeysWithValues: entries))
        try self.init(scenario, config, environment: environment)
    }

    /// Waits until every receiver has settled this many profiles.
    @discardableResult
    func waitForOutcomes(_ count: Int = 1) throws -> Metrics {
        try waitForMetrics("the end of \(count) profiles everywhere") { metrics in
            metrics.receivers.allSatisfy { metrics.accepted($0) == count && metrics.queued($0) == 0 }
        }
    }

    /// The names of the receivers that have delivered everything, once all have settled this many profiles.
    func arrivals(_ count: Int = 1) throws -> [String] {
        let metrics = try waitForOutcomes(count)
        return metrics.receivers.filter { metrics.delivered($0) == count }
    }

    /// Waits until the receiver "up" has delivered this many.
    func waitForDeliveries(_ count: Int) throws { try waitForMetrics("\(count) deliveries") { $0.delivered("up") == count } }

    /// Waits until the receiver "up" has rejected this many.
    func waitForRejections(_ count: Int) throws {
        try waitForMetrics("\(count) rejections") { $0.dropped("up", "rejected") == count }
    }

    /// Sends one profile after another, each once the previous one is settled, until a condition holds.
    func send(until what: String, _ test: () throws -> Bool) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        var count = try metrics().accepted("up")
        while true {
            try send(1, from: count)
            count += 1
            try waitForOutcomes(count)
            if try test() { return }
            guard Date() < limit else { throw NeverCame(what: what, seen: log.lines.suffix(20)) }
        }
    }
}

extension Array where Element == Way {
    /// The names of the ways whose profiles should arrive, sorted like ``GatewayProcess/arrivals(_:)``.
    var arriving: [String] { filter(\.arrives).map(\.name).sorted() }
}

extension Metrics {
    func retries(_ receiver: String = "up") -> Int { self["gateway_retries_total{receiver=\"\(receiver)\"}"] }
}

extension Scenario {
    /// Moves one file over another, as a certificate renewal does.
    func replace(_ name: String, by other: String) throws {
        guard rename(path(other), path(name)) == 0 else { throw NeverCame(what: "rename \(other)", seen: []) }
    }

    /// Replaces the text of a file atomically.
    func replace(_ name: String, text: String) throws {
        try write(text, to: "\(name).new")
        try replace(name, by: "\(name).new")
    }
}
