import Foundation

/// An OAuth2 token endpoint; see `Servers/tokens.py`.
final class TokenServer {
    struct Request: Decodable {
        let path: String
        /// The place of the client's credentials: `basic`, `body` or `none`.
        let place: String
        let form: [String: [String]]
        let headers: [[String]]

        func header(_ name: String) -> [String] { headers.filter { $0[0].lowercased() == name.lowercased() }.map { $0[1] } }
    }

    private struct Listening: Decodable { let port: UInt16 }

    let port: UInt16
    private let process: ChildProcess
    private var commands = 0

    var url: String { "http://127.0.0.1:\(port)/token" }

    /// - Parameter settings: members of the settings that differ from the default.
    init(_ scenario: Scenario, _ settings: String = "") throws {
        process = try scenario.start(["python3", "-u", "\(Project.servers)/tokens.py"])
        let line = try process.output.wait(for: "\"listening\"")
        port = try JSONDecoder().decode(Listening.self, from: Data(line.utf8)).port
        try set(settings)
    }

    /// Changes settings.
    func set(_ settings: String) throws {
        commands += 1
        process.write("{\(settings)}")
        _ = try process.output.wait(for: "the tokens' settings") { lines in
            lines.count { $0.contains("\"event\": \"done\"") } >= commands ? true : nil
        }
    }

    /// Every request so far, in order.
    var requests: [Request] {
        get throws {
            // The answer to a command comes after the lines before it.
            try set("")
            let lines = process.output.lines.filter { $0.contains("\"event\": \"request\"") }
            return try lines.map { try JSONDecoder().decode(Request.self, from: Data($0.utf8)) }
        }
    }

    /// Waits for this many requests.
    @discardableResult
    func wait(count: Int) throws -> [Request] {
        _ = try process.output.wait(for: "\(count) token requests") { lines in
            lines.count { $0.contains("\"event\": \"request\"") } >= count ? true : nil
        }
        return try requests
    }
}
