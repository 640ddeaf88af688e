import Foundation
import Glibc
import Testing

/// The built gateway, running with a config of the test.
final class RunningGateway: Sendable {
    let folder: TestFolder
    let process: ChildProcess
    let port: Int
    let adminPort: Int

    /// Starts the gateway and waits until it is ready.
    ///
    /// - Parameters:
    ///   - receivers: the entries of `receivers`; the listener forwards to all of them in this order.
    ///   - settings: further members of the config's top level.
    init(
        _ receivers: [(name: String, json: String)], settings: String = "", in folder: TestFolder, stdout: ChildProcess.Stream = .lines,
        environment: [String: String] = [:]
    ) throws {
        self.folder = folder
        let config = try folder.write("gateway.json", Self.config(receivers, settings: settings))
        process = try ChildProcess(
            [try Project.built("gateway"), "run", "--config", config], folder: folder.path, environment: environment, stdout: stdout)
        let log = try process.errors.wait(for: "the gateway to be ready") { lines in
            lines.contains { $0.contains(" msg=ready ") } ? lines : nil
        }
        guard let admin = log.first(where: { $0.contains("\"admin is listening\"") }).flatMap(Self.port),
            let port = log.first(where: { $0.contains(" msg=listening ") }).flatMap(Self.port)
        else { throw NeverCame(what: "the gateway's ports", seen: log) }
        (adminPort, self.port) = (admin, port)
    }

    deinit { process.end() }

    /// The config of a gateway with these receivers.
    static func config(_ receivers: [(name: String, json: String)], settings: String = "") -> String {
        """
        {
          "admin": { "listen_port": 0 },
          "log": { "level": "debug" },
          \(settings)
          "receive_http": {
            "default": {
              "http": { "listen_address": "127.0.0.1", "listen_port": 0 },
              "forward_to": [\(receivers.map { "\"\($0.name)\"" }.joined(separator: ", "))],
            },
          },
          "receivers": {
        \(receivers.map { "    \"\($0.name)\": \($0.json)," }.joined(separator: "\n"))
          },
        }

        """
    }

    private static func port(_ line: String) -> Int? { line.split(separator: ":").last.flatMap { Int($0) } }

    // MARK: Requests

    /// Sends one profile with curl.
    ///
    /// - Returns: the HTTP status.
    @discardableResult
    func send(_ body: String = "main;work 1\n", name: String = "checkout", headers: [String] = []) throws -> String {
        let query = name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? name
        let result = try ChildProcess.run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--data-binary", body]
                + headers.flatMap { ["-H", $0] } + ["http://127.0.0.1:\(port)/ingest?name=\(query)"])
        guard result.status == 0 else { throw Obstacle("curl: \(result.err)") }
        return result.out
    }

    /// The body of a page of the admin listener.
    func admin(_ path: String) throws -> String {
        let result = try ChildProcess.run(["curl", "-sS", "--noproxy", "*", "http://127.0.0.1:\(adminPort)\(path)"])
        guard result.status == 0 else { throw Obstacle("curl: \(result.err)") }
        return result.out
    }

    /// A receiver on the status page.
    func status(of receiver: String) throws -> ReceiverStatus {
        let page = try JSONDecoder().decode(StatusPage.self, from: Data(admin("/api/v1/status").utf8))
        guard let status = page.receivers.first(where: { $0.name == receiver }) else { throw Obstacle("no receiver \(receiver)") }
        return status
    }

    struct StatusPage: Decodable {
        let receivers: [ReceiverStatus]
    }

    struct ReceiverStatus: Decodable {
        let name, plugin, health, reason, last_error, last_breach: String
        let breaches: Int
        let queue_profiles, open_deliveries: Int
    }

    /// The value of one sample of `/metrics`.
    func metric(_ sample: String) throws -> String? {
        try admin("/metrics").split(separator: "\n").first { $0.hasPrefix(sample + " ") }.map { String($0.dropFirst(sample.count + 1)) }
    }

    /// Waits until a sample of `/metrics` has a value.
    func wait(forMetric sample: String, toBe value: String) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let present = try metric(sample)
            if present == value { return }
            guard Date() < limit else { throw NeverCame(what: "\(sample) \(value)", seen: [present ?? "nothing"] + log.suffix(20)) }
        }
    }

    // MARK: Log

    var log: [String] { process.errors.lines }

    /// Waits for a log line that contains all of these texts.
    @discardableResult
    func logLine(_ texts: String...) throws -> String {
        try process.errors.wait(for: "a log line with \(texts)") { lines in lines.first { line in texts.allSatisfy(line.contains) } }
    }

    /// Waits for this many log lines that contain a text.
    func logLines(_ count: Int, _ text: String) throws {
        _ = try process.errors.wait(for: "\(count) log lines with \(text)") { lines in
            lines.count { $0.contains(text) } >= count ? true : nil
        }
    }

    /// Sends SIGTERM and waits for the end.
    @discardableResult
    func stop() throws -> ChildProcess.Ended {
        process.signal(SIGTERM)
        return try process.wait()
    }

    /// Stops the gateway, which must end with 0; else the end of its log is told.
    func endsWell(_ location: SourceLocation = #_sourceLocation) throws {
        let ended = try stop()
        #expect(ended.status == 0, "\(ended.err.suffix(3000))", sourceLocation: location)
    }
}
