import Foundation

/// Holds threads of a process at a call, until it lets them go; see `Servers/hold.c`.
final class HeldThread {
    /// The environment to start a gateway with.
    let environment: [String: String]
    private let scenario: Scenario

    /// Holds the threads that set this nice value, before their first work.
    convenience init(_ scenario: Scenario, nice: Int) throws { try self.init(scenario, "HOLD_NICE", "\(nice)") }

    /// Holds the threads that send a datagram which begins with this text.
    convenience init(_ scenario: Scenario, message: String) throws { try self.init(scenario, "HOLD_MESSAGE", message) }

    /// Holds the threads that sync a file.
    static func syncing(_ scenario: Scenario) throws -> HeldThread { try HeldThread(scenario, "HOLD_SYNC", "1") }

    private init(_ scenario: Scenario, _ variable: String, _ value: String) throws {
        self.scenario = scenario
        let made = try scenario.run(
            "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "hold.so", "\(Project.servers)/hold.c",
            "-ldl")
        guard made.status == 0 else { throw NeverCame(what: "hold.so", seen: made.output) }
        environment = ["LD_PRELOAD": scenario.path("hold.so"), variable: value, "HOLD_FILE": scenario.path("hold")]
        try hold()
    }

    /// Holds the threads that come from now on.
    func hold() throws { try scenario.write("", to: "hold") }

    /// Whether a thread is or was held.
    var isHeld: Bool { FileManager.default.fileExists(atPath: scenario.path("hold.held")) }

    func letGo() throws { try FileManager.default.removeItem(atPath: scenario.path("hold")) }
}
