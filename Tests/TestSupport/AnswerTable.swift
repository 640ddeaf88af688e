import Foundation

/// The table of destinations' answers in `docs/operations.md`.
enum AnswerTable {
    /// One row of the table.
    struct Row: Sendable {
        /// What the destination does.
        let what: String
        /// The outcome: delivered, retried or rejected.
        let fate: String

        /// The statuses that the row names.
        var statuses: Set<Int> {
            Set(what.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }.filter { 200...999 ~= $0 })
        }
    }

    /// Reads the rows from the document.
    static func rows() throws -> [Row] {
        let text = try String(contentsOfFile: "\(Project.root)/docs/operations.md", encoding: .utf8)
        let lines = text.components(separatedBy: "\n").drop { $0 != "## What a destination's answer means" }.dropFirst()
        let section = lines.prefix { !$0.hasPrefix("## ") }
        return section.filter { $0.hasPrefix("|") }.dropFirst(2).map { line in
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) }
            return Row(what: cells[1], fate: cells[2])
        }
    }
}

/// An upstream that gives the answer of the path's first segment; see `Servers/answers.py`.
struct AnswerServer {
    /// Bytes to send first, bytes to repeat without end, and how the connection ends.
    struct Answer: Encodable {
        let raw: String
        var more = ""
        var then = ""
    }

    let port: UInt16
    private let process: ChildProcess

    private struct Event: Decodable {
        var port: UInt16?
        var target: String?
    }

    init(_ scenario: Scenario, _ answers: [String: Answer]) throws {
        let file = try scenario.write(String(decoding: try JSONEncoder().encode(answers), as: UTF8.self), to: "answers.json")
        process = try scenario.start(["python3", "-u", "\(Project.servers)/answers.py", file])
        let line = try process.output.wait(for: "\"listening\"")
        port = try JSONDecoder().decode(Event.self, from: Data(line.utf8)).port ?? 0
    }

    /// The targets of all requests, once this one is among them.
    func targets(to last: String) throws -> [String] {
        try process.output.wait(for: last) { lines in
            let targets = lines.compactMap { try? JSONDecoder().decode(Event.self, from: Data($0.utf8)).target }
            return targets.contains(last) ? targets : nil
        }
    }
}
