import Foundation
import Glibc

/// The built gateway, running on a config of the test's own.
final class RunningGateway: Sendable {
    let folder: TestFolder
    let child: Child
    let port: Int
    let adminPort: Int

    /// Starts it and waits until it is ready.
    ///
    /// - Parameters:
    ///   - receivers: what stands in `receivers`, one member each; the listener forwards to all, in that order.
    ///   - settings: further members of the config's top level.
    init(
        _ receivers: [(name: String, json: String)], settings: String = "", in folder: TestFolder, standardOutput: Int32? = nil,
        environment: [String: String] = [:]
    ) throws {
        self.folder = folder
        let config = try folder.write("gateway.json", Self.config(receivers, settings: settings))
        child = try Child(
            [try Project.built("gateway"), "run", "--config", config], in: folder.path, environment: environment,
            standardOutput: standardOutput)
        let child = child
        (adminPort, port) = try child.output.wait(for: "the gateway to be ready") { output in
            guard output.exitStatus == nil else { throw Obstacle("the gateway did not start:\n\(output.err)") }
            let lines = output.err.split(separator: "\n")
            guard lines.contains(where: { $0.contains(" msg=ready ") }),
                let admin = lines.first(where: { $0.contains("\"admin is listening\"") }).flatMap(Self.port),
                let port = lines.first(where: { $0.contains(" msg=listening ") }).flatMap(Self.port)
            else { return nil }
            return (admin, port)
        }
    }

    deinit { if child.output.current.exitStatus == nil { child.signal(SIGKILL) } }

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

    private static func port(_ line: Substring) -> Int? { line.split(separator: ":").last.flatMap { Int($0) } }

    // MARK: Talking to it

    /// Sends one profile with curl.
    ///
    /// - Returns: the HTTP status.
    @discardableResult
    func send(_ body: String = "main;work 1\n", name: String = "checkout", headers: [String] = []) throws -> String {
        let query = name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? name
        let result = try Child.run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--data-binary", body]
                + headers.flatMap { ["-H", $0] } + ["http://127.0.0.1:\(port)/ingest?name=\(query)"])
        guard result.status == 0 else { throw Obstacle("curl: \(result.err)") }
        return result.out
    }

    func admin(_ path: String) throws -> String {
        let result = try Child.run(["curl", "-sS", "--noproxy", "*", "http://127.0.0.1:\(adminPort)\(path)"])
        guard result.status == 0 else { throw Obstacle("curl: \(result.err)") }
        return result.out
    }

    /// A receiver as the status page has it.
    func status(of receiver: String) throws -> ReceiverStatus {
        let page = try JSONDecoder().decode(StatusPage.self, from: Data(admin("/api/v1/status").utf8))
        guard let status = page.receivers.first(where: { $0.name == receiver }) else { throw Obstacle("no receiver \(receiver)") }
        return status
    }

    struct StatusPage: Decodable {
        let receivers: [ReceiverStatus]
    }

    struct ReceiverStatus: Decodable {
        let name, plugin, health, reason, last_error: String
        let queue_profiles, open_deliveries: Int
    }

    /// The value of one sample on `/metrics`.
    func metric(_ sample: String) throws -> String? {
        try admin("/metrics").split(separator: "\n").first { $0.hasPrefix(sample + " ") }.map { String($0.dropFirst(sample.count + 1)) }
    }

    // MARK: Its log

    var log: [String] { child.output.current.err.split(separator: "\n").map(String.init) }

    /// Waits for a line of the log that has all of these texts.
    @discardableResult
    func logLine(_ texts: String...) throws -> String {
        try child.output.wait(for: "a log line with \(texts)") { output in
            output.err.split(separator: "\n").first { line in texts.allSatisfy { line.contains($0) } }.map(String.init)
        }
    }

    /// Stops it as an operator would.
    @discardableResult
    func stop() throws -> (status: Int32, out: String, err: String) {
        child.signal(SIGTERM)
        return try child.wait()
    }
}
