import Foundation
import Testing

/// A running gateway with its ports, log and metrics.
final class GatewayProcess {
    let process: ChildProcess
    private(set) var ports: [String: UInt16] = [:]
    private(set) var adminPort: UInt16 = 0
    private var admin: RawConnection?
    private unowned let scenario: Scenario
    private let config: String
    private let environment: [String: String]

    var log: LineLog { process.errors }
    /// The port of the listener with the name "default".
    var port: UInt16 { ports["default"] ?? 0 }

    /// Starts a gateway and waits until it is ready.
    ///
    /// - Parameters:
    ///   - config: members of the config without the outer braces; ports of 0 are read from the log.
    ///   - admin: further members of `admin`.
    ///   - descriptors: the limit of open descriptors, if any.
    ///   - fileSize: the limit of file sizes, if any.
    init(
        _ scenario: Scenario, _ config: String, environment: [String: String] = [:], stdout: ChildProcess.Stream = .lines,
        admin: String = "", descriptors: Int? = nil, fileSize: Int? = nil
    ) throws {
        (self.scenario, self.config, self.environment) = (scenario, config, environment)
        let admin = admin.isEmpty ? Self.admin : Self.admin.replacing(" },", with: ", \(admin) },")
        let file = try scenario.write("{ \(admin)\n\(config)\n}\n", to: "gateway.json")
        let limits = [descriptors.map { "--nofile=\($0)" }, fileSize.map { "--fsize=\($0)" }].compactMap(\.self)
        let limit = limits.isEmpty ? [] : ["prlimit"] + limits
        process = try scenario.start(
            limit + [try Project.builtGateway(), "run", "--config", file], environment: environment, stdout: stdout)
        try log.wait(for: "msg=ready")
        readPorts()
        scenario.keep(self)
    }

    /// Reads the ports from the log, also after a reload.
    func readPorts() {
        admin = nil
        for line in log.lines where line.contains("listening") {
            guard let port = Self.field("address", of: line)?.split(separator: ":").last.flatMap({ UInt16($0) }) else { continue }
            if let listener = Self.field("listener", of: line) { ports[listener] = port } else { adminPort = port }
        }
    }

    /// The entry of one listener with these members.
    static func listener(_ receivers: [String], http: String = "", more: String = "", name: String = "default") -> String {
        let to = receivers.map { "\"\($0)\"" }.joined(separator: ", ")
        return """
            "\(name)": { "http": { "listen_address": "127.0.0.1", "listen_port": 0, \(http) }, \(more) "forward_to": [\(to)] },
            """
    }

    /// The members of a config with these listeners and receivers.
    static func config(listeners: String, receivers: [String: String], more: String = "") -> String {
        let entries = receivers.sorted { $0.key < $1.key }.map { "\"\($0)\": { \($1) }," }.joined(separator: "\n")
        return "\(more)\n\"receive_http\": { \(listeners) },\n\"receivers\": { \(entries) }"
    }

    /// Starts a gateway with one listener that forwards to all receivers, in the order of their names.
    convenience init(
        _ scenario: Scenario, receivers: [String: String], http: String = "", more: String = "", stdout: ChildProcess.Stream = .lines,
        admin: String = "", descriptors: Int? = nil
    ) throws {
        let listeners = Self.listener(receivers.keys.sorted(), http: http)
        let config = Self.config(listeners: listeners, receivers: receivers, more: more)
        try self.init(scenario, config, stdout: stdout, admin: admin, descriptors: descriptors)
    }

    /// The value of a logfmt field that has no quotes.
    static func field(_ name: String, of line: String) -> String? {
        line.split(separator: " ").first { $0.hasPrefix("\(name)=") }.map { String($0.dropFirst(name.count + 1)) }
    }

    /// Sends SIGTERM and returns the exit status.
    func stop() throws -> Int32 {
        process.signal(SIGTERM)
        return try process.waitForExit()
    }

    /// Sends SIGKILL and waits for the end.
    func kill() throws {
        process.signal(SIGKILL)
        try process.waitForExit()
    }

    /// Starts another process with the same config after this one has ended; ports of 0 change.
    func again(environment: [String: String]? = nil) throws -> GatewayProcess {
        try GatewayProcess(scenario, config, environment: environment ?? self.environment)
    }

    // MARK: Metrics

    /// Scrapes `/metrics`.
    func metrics() throws -> Metrics {
        // All scrapes share one connection, so that they do not affect the counts.
        if let admin, let metrics = try? scrape(admin) { return metrics }
        // It was idle for too long.
        let connection = try RawConnection(adminPort)
        admin = connection
        return try scrape(connection)
    }

    private func scrape(_ connection: RawConnection) throws -> Metrics {
        connection.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        return Metrics(try connection.readResponse().text)
    }

    /// Waits until the metrics satisfy a condition.
    @discardableResult
    func waitForMetrics(_ what: String, _ test: (Metrics) -> Bool) throws -> Metrics {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let metrics = try metrics()
            if test(metrics) { return metrics }
            guard Date() < limit else { throw NeverCame(what: what, seen: log.lines.suffix(20) + metrics.lines) }
            log.pause()
        }
    }

    /// Checks that every profile that a receiver accepted or recovered is delivered, queued, dropped or a dead letter.
    func checkAccounts(_ location: SourceLocation = #_sourceLocation) throws {
        let metrics = try metrics()
        #expect(!metrics.receivers.isEmpty, sourceLocation: location)
        for receiver in metrics.receivers {
            let came = metrics.accepted(receiver) + metrics.recovered(receiver)
            let known = metrics.delivered(receiver) + metrics.queued(receiver) + metrics.dropped(receiver) + metrics.deadLettered(receiver)
            #expect(came == known, "the account of \(receiver) closes", sourceLocation: location)
        }
    }
}

/// One scrape of `/metrics`, by sample name with its labels.
struct Metrics {
    let lines: [String]
    private var samples: [String: Double] = [:]

    init(_ page: String) {
        lines = page.split(separator: "\n").filter { !$0.hasPrefix("#") }.map(String.init)
        for line in lines {
            guard let space = line.lastIndex(of: " ") else { continue }
            samples[String(line[..<space])] = Double(line[line.index(after: space)...])
        }
    }

    subscript(sample: String) -> Int { samples[sample].map { Int($0) } ?? 0 }
    /// The value of a sample that need not be an integer.
    func value(_ sample: String) -> Double { samples[sample] ?? 0 }

    var receivers: [String] {
        samples.keys.filter { $0.hasPrefix("gateway_profiles_accepted_total{") }.map { key in
            String(key.dropFirst("gateway_profiles_accepted_total{receiver=\"".count).dropLast(2))
        }.sorted()
    }

    func accepted(_ receiver: String) -> Int { self["gateway_profiles_accepted_total{receiver=\"\(receiver)\"}"] }
    func delivered(_ receiver: String) -> Int { self["gateway_profiles_delivered_total{receiver=\"\(receiver)\"}"] }
    /// The profiles that this process found on disk.
    func recovered(_ receiver: String) -> Int { self["gateway_profiles_recovered_total{receiver=\"\(receiver)\"}"] }
    func deadLettered(_ receiver: String) -> Int { self["gateway_profiles_dead_lettered_total{receiver=\"\(receiver)\"}"] }
    func queued(_ receiver: String) -> Int { self["gateway_queue_profiles{receiver=\"\(receiver)\"}"] }
    func queuedBytes(_ receiver: String) -> Int { self["gateway_queue_bytes{receiver=\"\(receiver)\"}"] }
    func health(_ receiver: String) -> Int { self["gateway_receiver_health{receiver=\"\(receiver)\"}"] }
    func answered(_ status: Int, _ listener: String = "default") -> Int {
        self["gateway_requests_total{listener=\"\(listener)\",status=\"\(status)\"}"]
    }
    /// The profiles received by the listener "default", by both APIs.
    var received: Int {
        ["ingest", "push"].map { self["gateway_profiles_received_total{listener=\"default\",api=\"\($0)\"}"] }.reduce(0, +)
    }
    func connections(_ listener: String = "default") -> Int {
        self["pyroscope_receive_http_tcp_connections{listener=\"\(listener)\"}"]
    }

    func dropped(_ receiver: String, _ reason: String) -> Int {
        self["gateway_profiles_dropped_total{receiver=\"\(receiver)\",reason=\"\(reason)\"}"]
    }

    /// The profiles dropped for any reason.
    func dropped(_ receiver: String) -> Int {
        let prefix = "gateway_profiles_dropped_total{receiver=\"\(receiver)\","
        return Int(samples.filter { $0.key.hasPrefix(prefix) }.values.reduce(0, +))
    }
}

extension GatewayProcess {
    /// Sends profiles `first ..< first + count`, each with its own body, on one connection, and expects 200 for all.
    func send(_ count: Int, from first: Int = 0, to target: String = "/ingest?name=app", _ location: SourceLocation = #_sourceLocation)
        throws
    {
        let connection = try RawConnection(port)
        defer { connection.close() }
        var others: [Int] = []
        for number in first..<(first + count) {
            let status = try connection.post(target, Self.body(number)).status
            if status != 200 { others.append(status) }
        }
        #expect(others == [], "every profile gets 200", sourceLocation: location)
    }

    static func body(_ number: Int) -> String { "main;work 1\nnumber \(number)" }

    /// The bodies of these profiles, each with the count 1.
    static func bodies(_ numbers: Range<Int>) -> [String: Int] { Dictionary(uniqueKeysWithValues: numbers.map { (body($0), 1) }) }
}

/// Entries of `receivers` without their outer braces.
enum ReceiverEntry {
    static func writer(_ urls: String..., more: String = "", config: String = "") -> String {
        let endpoints = urls.map { "{ \"url\": \"\($0)\" }" }.joined(separator: ", ")
        return "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [\(endpoints)], \(config) }, \(more)"
    }

    static func archive(_ folder: String = "archive", more: String = "") -> String {
        "\"plugin\": \"FileSink\", \"config\": { \"directory\": \"\(folder)\" }, \(more)"
    }

    static func console(_ format: String = "text", more: String = "") -> String {
        "\"plugin\": \"StdoutSink\", \"config\": { \"format\": \"\(format)\" }, \(more)"
    }

    /// A retry clock so fast that no test waits long.
    static let quickRetry = "\"retry\": { \"min_backoff_period\": \"10ms\", \"max_backoff_period\": \"100ms\" },"
}
