import Foundation

/// An upstream that counts what it answered 200, quick enough for a long load; see `Servers/counter.py`.
///
/// It outlives the gateways that send to it, and keeps its port.
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

    /// A receiver's entry that sends here, with an attempt that is given up by nobody.
    func entry(_ more: String = "") -> String {
        "\"plugin\": \"HTTPWriter\", \"config\": { \"endpoint\": [{ \"url\": \"\(url)\", \"remote_timeout\": \"10m\" }] }, "
            + "\"delivery_timeout\": \"10m\", \(ReceiverEntry.quickRetry) \(more)"
    }

    /// What is held is answered so, too; only 200 counts.
    func answer(_ status: Int = 200) throws { try command("\"answer\", \"status\": \(status)") }
    /// From now on requests are read, and neither answered nor counted.
    func hold() throws { try command("\"hold\"") }
    /// From now on connections are refused.
    func refuse() throws { try command("\"refuse\"") }
    func listen() throws { try command("\"listen\"") }
    /// The gateway that has sent is dead; what comes from now on is another one's.
    func startNextLife() throws { try command("\"life\"") }
    func forget() throws { try command("\"forget\"") }

    /// Everything that has been answered 200.
    func tally() throws -> Tally { try tally(by: "\"tally\"") }
    /// The profiles in the files below a folder, metadata aside.
    func scan(_ folder: String) throws -> Tally { try tally(by: "\"scan\", \"under\": \"\(folder)\"") }

    private func tally(by order: String) throws -> Tally {
        let event = try command("\(order), \"to\": \"\(scenario.path("tally"))\"")
        let counts = try scenario.bytes(of: "tally").withUnsafeBytes { bytes in
            (0..<(bytes.count / 4)).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self) }
        }
        return Tally(
            counts: counts, requests: event.requests ?? 0, foreign: event.foreign ?? [], twice: event.twice ?? 0,
            repeated: event.repeated ?? [])
    }

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

/// How often each profile is somewhere.
struct Tally {
    /// By the ids of the profiles.
    let counts: [UInt32]
    let requests: Int
    /// The beginnings of what nobody sent, or not with these bytes.
    let foreign: [String]
    /// How often a profile came again from the same process.
    let twice: Int
    /// How many came again from a later process, for each process that had delivered them.
    let repeated: [Int]

    subscript(id: Int) -> Int { id < counts.count ? Int(counts[id]) : 0 }

    /// Those that are there.
    var ids: Set<Int> { Set(counts.indices.filter { counts[$0] > 0 }) }
    var distinct: Int { counts.count { $0 > 0 } }
}
