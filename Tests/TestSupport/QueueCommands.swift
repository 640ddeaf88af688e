import Foundation
import Testing

/// An element of `queue list --json`.
struct ListedQueue: Decodable {
    let receiver: String
    let configured: Bool?
    let profiles: Int
    let bytes: Int
    let oldest: String?
    let age_seconds: Int?
    let next_retry: String?
    let attempts: Int

    static func decode(_ lines: [String]) throws -> [ListedQueue] {
        try JSONDecoder().decode([ListedQueue].self, from: Data(lines.joined().utf8))
    }
}

/// The output of `queue verify --json`.
struct VerifiedSpool: Decodable {
    struct Damage: Decodable {
        let file: String
        let offset: Int
        let size: Int
        let what: String
    }

    let damages: [Damage]

    static func decode(_ lines: [String]) throws -> VerifiedSpool {
        try JSONDecoder().decode(VerifiedSpool.self, from: Data(lines.joined().utf8))
    }
}

/// An element of `queue show --json`.
struct ShownProfile: Decodable {
    let sequence: UInt64
    let payload_bytes: Int?
}

extension [ListedQueue] {
    func of(_ receiver: String) -> ListedQueue? { first { $0.receiver == receiver } }
}

extension Scenario {
    /// Runs `gateway queue` with these arguments.
    func queue(_ words: String..., config: Bool = true) throws -> (status: Int32, output: [String], errors: [String]) {
        try queue(words, config: config)
    }

    private func queue(_ words: [String], config: Bool) throws -> (status: Int32, output: [String], errors: [String]) {
        let place = config ? ["--config", path("gateway.json")] : []
        let process = try start([try Project.builtGateway(), "queue"] + words + place)
        return (try process.waitForExit(), process.output.lines, process.errors.lines)
    }

    func queues() throws -> [ListedQueue] { try ListedQueue.decode(try queue("list", "--json").output) }

    /// The output of `queue show --json`.
    func shown(_ words: String...) throws -> [ShownProfile] {
        try JSONDecoder().decode([ShownProfile].self, from: Data(try queue(["show", "--json"] + words, config: true).output.joined().utf8))
    }

    /// Waits until the listed queues satisfy a condition.
    func waitForQueues(_ what: String, _ test: ([ListedQueue]) -> Bool) throws {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let queues = try queues()
            if test(queues) { return }
            guard Date() < limit else { throw NeverCame(what: what, seen: queues.map { "\($0)" }) }
        }
    }

    /// Runs a command on a terminal, answers its question, and returns its exit status.
    func answer(_ word: String, to command: String) throws -> Int32 {
        let words = "\(try Project.builtGateway()) \(command) --config \(path("gateway.json"))"
        let process = try start(["script", "-qec", words, "/dev/null"])
        process.write(word)
        return try process.waitForExit()
    }

    /// Writes a config with this receiver only; no gateway may be using it.
    func keepOnly(_ receiver: String) throws {
        let listener = "\"receive_http\": { \"d\": { \"forward_to\": [\"\(receiver)\"] } }"
        let entry = "\"receivers\": { \"\(receiver)\": { \(ReceiverEntry.archive()) } }"
        try write("{ \"data_dir\": \"data\", \(listener), \(entry) }", to: "gateway.json")
    }

    /// Edits the first spool file with this ending, and returns its name and what the edit returned.
    func damage(_ ending: String, _ edit: (inout Data) -> Int) throws -> (file: String, place: Int) {
        let file = try #require(files(under: "data/spool").first { $0.hasSuffix(ending) })
        var data = try bytes(of: "data/spool/\(file)")
        let place = edit(&data)
        try data.write(to: URL(fileURLWithPath: path("data/spool/\(file)")))
        return (file, place)
    }

    /// The contents of all spool files, by name.
    func spoolBytes() throws -> [String: Data] {
        try Dictionary(uniqueKeysWithValues: files(under: "data/spool").map { ($0, try bytes(of: "data/spool/\($0)")) })
    }
}
