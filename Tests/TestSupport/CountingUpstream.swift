import Foundation

/// An upstream that counts what it answered with 200, fast enough for long loads; see `Servers/counter.py`.
///
/// It keeps running, on the same port, while gateways end.
final class CountingUpstream {
    private struct Event: Decodable {
        let event: String
        var port: UInt16?
        var requests: Int?
        var foreign: [String]?
        var twice: Int?
        var repeated: [Int]?
    }

    let port: UInt16
    private unowned let scenario: Scenario
    private let process: ChildProcess
    private var commands = 0

    var url: String { "http://127.0.0.1:\(port)" }

    init(_ scenario: Scenario) throws {
        self.scenario = scenario
        process = try scenario.start(["python3", "-u", "\(Project.servers)/counter.py"])
        let line = try process.output.wait(for: "\"listening\"")
        port = try JSONDecoder().decode(Event.self, from: Data(line.utf8)).port ?? 0
    }

    /// A receiver that sends here, with timeouts so long that no attempt ends early.
    func entry(_ more: String = "") -> String {
        "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(url)\", \"remote_timeout\": \"10m\" }] }, "
            + "\"delivery_timeout\": \"10m\", \(ReceiverEntry.quickRetry) \(more)"
    }

    /// Answers with this status from now on, also held requests; only a 200 counts.
    func answer(_ status: Int = 200) throws { try command("\"answer\", \"status\": \(status)") }
    /// Reads requests from now on, but neither answers nor counts them.
    func hold() throws { try command("\"hold\"") }
    /// Refuses connections from now on.
    func refuse() throws { try command("\"refuse\"") }
    func listen() throws { try command("\"listen\"") }
    /// Says that the gateway that sent until now is dead, and that later requests come from another one.
    func startNextLife() throws { try command("\"life\"") }
    func forget() throws { try command("\"forget\"") }

    /// Counts everything that was answered with 200.
    func tally() throws -> Tally { try tally(by: "\"tally\"") }
    /// Counts the profiles in the files below a folder, without metadata.
    func scan(_ folder: String) throws -> Tally { try tally(by: "\"scan\", \"under\": \"\(folder)\"") }

    /// Sends a command that writes a tally, and reads it.
    private func tally(by order: String) throws -> Tally {
        let event = try command("\(order), \"to\": \"\(scenario.path("tally"))\"")
        let counts = try scenario.bytes(of: "tally").withUnsafeBytes { bytes in
            (0..<(bytes.count / 4)).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self) }
        }
        return Tally(
            counts: counts, requests: event.requests ?? 0, foreign: event.foreign ?? [], twice: event.twice ?? 0,
            repeated: event.repeated ?? [])
    }

    /// Sends a command and waits for its answer.
    @discardableResult
    private func command(_ order: String) throws -> Event {
        process.write("{\"do\": \(order)}")
        commands += 1
        let line = try process.output.wait(for: "the counter to \(order)") { lines in
            lines.count > commands ? lines[commands] : nil
        }
        return try JSONDecoder().decode(Event.self, from: Data(line.utf8))
    }
}

/// How often each profile has arrived at a place.
struct Tally {
    /// The counts by the IDs of the profiles.
    let counts: [UInt32]
    let requests: Int
    /// The beginnings of bodies that nobody sent, or that were changed.
    let foreign: [String]
    /// How often a profile was repeated by the same process.
    let twice: Int
    /// For each process, how many of its profiles were repeated by a later one.
    let repeated: [Int]

    subscript(id: Int) -> Int { id < counts.count ? Int(counts[id]) : 0 }

    /// The profiles that have arrived.
    var ids: Set<Int> { Set(counts.indices.filter { counts[$0] > 0 }) }
    var distinct: Int { counts.count { $0 > 0 } }
}
