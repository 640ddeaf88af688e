import Foundation

/// A listener that stores the decoded body of each request, and passes the request on or answers 200; see `Servers/tap.py`.
final class Tap {
    struct Request: Decodable {
        let target: String
        let headers: [[String]]
        /// The path of the decoded body.
        let file: String

        func header(_ name: String) -> [String] { headers.filter { $0[0].lowercased() == name.lowercased() }.map { $0[1] } }

        var series: [PushSeries] {
            get throws { try PushSeries.decode(try Data(contentsOf: URL(fileURLWithPath: file))) }
        }
    }

    let port: UInt16
    private let process: ChildProcess

    var url: String { "http://127.0.0.1:\(port)" }

    /// - Parameter name: the beginning of the names of the body files.
    init(_ scenario: Scenario, _ name: String, to upstream: UInt16? = nil) throws {
        let more = upstream.map { ["\($0)"] } ?? []
        process = try scenario.start(["python3", "-u", "\(Project.servers)/tap.py", scenario.path(name)] + more)
        let line = try process.output.wait(for: "listening")
        port = line.split(separator: " ").last.flatMap { UInt16($0) } ?? 0
    }

    /// Waits until there are at least `count` requests.
    func wait(count: Int) throws -> [Request] {
        let lines = try process.output.wait(for: "\(count) requests") { lines in
            let requests = lines.filter { $0.hasPrefix("{") }
            return requests.count >= count ? requests : nil
        }
        return try lines.map { try JSONDecoder().decode(Request.self, from: Data($0.utf8)) }
    }
}
