import Foundation

/// An HTTP/2 upstream that can become silent; see `Servers/h2_upstream.py`.
final class H2Upstream {
    struct Event: Decodable {
        let event: String
        var port: UInt16?
        var connection: Int?
        var target: String?
    }

    let port: UInt16
    var url: String { "https://localhost:\(port)" }
    private let process: ChildProcess
    private var commands = 0

    /// Starts the upstream with the server certificate of ``Certificates``.
    init(_ scenario: Scenario) throws {
        process = try scenario.start(
            [try Project.python(), "-u", "\(Project.servers)/h2_upstream.py", scenario.path("server.pem"), scenario.path("server.key")])
        let line = try process.output.wait(for: "\"listening\"")
        port = try JSONDecoder().decode(Event.self, from: Data(line.utf8)).port ?? 0
    }

    private static func decode(_ lines: [String]) -> [Event] {
        lines.compactMap { try? JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
    }

    var requests: [Event] { Self.decode(process.output.lines).filter { $0.event == "request" } }

    /// Waits until the events satisfy a condition.
    func wait(for what: String, _ test: ([Event]) -> Bool) throws {
        _ = try process.output.wait(for: what) { test(Self.decode($0)) ? true : nil }
    }

    /// Makes all open connections silent from now on.
    func freeze() throws { try command("freeze") }
    /// Answers the held requests.
    func release() throws { try command("release") }

    /// Sends a command and waits until it is done.
    private func command(_ name: String) throws {
        commands += 1
        process.write("{\"do\":\"\(name)\"}")
        let wanted = commands
        _ = try process.output.wait(for: name) { lines in lines.count { $0.contains("\"done\"") } >= wanted ? true : nil }
    }
}
