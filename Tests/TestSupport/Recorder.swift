import Foundation

/// An upstream that records its requests; see `Servers/recorder.py`.
final class Recorder {
    struct Request: Decodable {
        let number: Int
        let connection: Int
        let method: String
        let target: String
        let headers: [[String]]
        let sha256: String
        let length: Int
        let held: Bool
        /// The body, if it is short.
        let text: String?

        func header(_ name: String) -> [String] { headers.filter { $0[0].lowercased() == name.lowercased() }.map { $0[1] } }
    }

    private struct Event: Decodable {
        let event: String
        let port: UInt16?
    }

    let port: UInt16
    private let process: ChildProcess
    private var commands = 0
    private var decoded: [Request] = []
    private var read = 0

    /// - Parameters:
    ///   - port: the port of a recorder that has ended, or of one at another address; nil is any port.
    ///   - host: another address of this machine.
    init(_ scenario: Scenario, port wanted: UInt16? = nil, host: String = "127.0.0.1") throws {
        let wanted = try wanted ?? scenario.port()
        process = try scenario.start(["python3", "-u", "\(Project.servers)/recorder.py", "\(wanted)", host])
        let line = try process.output.wait(for: "\"listening\"")
        port = try JSONDecoder().decode(Event.self, from: Data(line.utf8)).port ?? 0
    }

    var url: String { "http://127.0.0.1:\(port)" }

    /// Every request that has been answered so far, in order.
    var requests: [Request] {
        // Each request is written before its answer, so the answer to a command comes after all earlier requests.
        if process.isRunning { try? command("{\"do\":\"sync\"}") }
        decode(process.output.lines)
        return decoded
    }

    /// Decodes the requests in the new lines.
    private func decode(_ lines: [String]) {
        for line in lines[read...] where line.contains("\"event\": \"request\"") {
            if let request = try? JSONDecoder().decode(Request.self, from: Data(line.utf8)) { decoded.append(request) }
        }
        read = lines.count
    }

    /// Waits until the requests so far satisfy a condition.
    @discardableResult
    func wait(for what: String, _ test: ([Request]) -> Bool) throws -> [Request] {
        try process.output.wait(for: what) { lines in
            decode(lines)
            return test(decoded) ? decoded : nil
        }
    }

    @discardableResult
    func wait(count: Int) throws -> [Request] { try wait(for: "\(count) requests") { $0.count >= count } }

    /// How often each short body has come so far.
    var texts: [String: Int] { requests.reduce(into: [:]) { $0[$1.text ?? "", default: 0] += 1 } }

    // MARK: Commands

    /// Answers with this status from now on, also held requests.
    func answer(_ status: Int = 200, body: String = "", headers: [[String]] = []) throws {
        let members: [String: Any] = ["do": "answer", "status": status, "body": body, "headers": headers]
        try command(String(decoding: JSONSerialization.data(withJSONObject: members), as: UTF8.self))
    }

    /// Answers requests with this text in head or body with this status from now on.
    func reject(_ text: String, _ status: Int) throws {
        try command("{\"do\":\"reject\",\"text\":\"\(text)\",\"status\":\(status)}")
    }
    /// Reads requests from now on without answering them.
    func hold() throws { try command("{\"do\":\"hold\"}") }
    /// Refuses connections from now on.
    func refuse() throws { try command("{\"do\":\"refuse\"}") }
    func listen() throws { try command("{\"do\":\"listen\"}") }
    /// Kills the recorder; earlier requests can still be read.
    func kill() {
        process.end()
        _ = try? process.output.waitForEnd()
    }

    /// Sends a command and waits until it is done.
    private func command(_ json: String) throws {
        commands += 1
        process.write(json)
        _ = try process.output.wait(for: "the recorder to \(json)") { lines in
            lines.count { $0.contains("\"event\": \"done\"") } >= commands ? true : nil
        }
    }
}
