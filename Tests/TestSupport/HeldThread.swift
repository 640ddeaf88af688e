import Foundation

/// Holds the threads of a process with one nice value before their first work, until it lets them go; see `Servers/hold.c`.
final class HeldThread {
    /// The environment to start a gateway with.
    let environment: [String: String]
    private let scenario: Scenario

    init(_ scenario: Scenario, nice: Int) throws {
        self.scenario = scenario
        let made = try scenario.run(
            "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "hold.so", "\(Project.servers)/hold.c",
            "-ldl")
        guard made.status == 0 else { throw NeverCame(what: "hold.so", seen: made.output) }
        environment = ["LD_PRELOAD": scenario.path("hold.so"), "HOLD_NICE": "\(nice)", "HOLD_FILE": scenario.path("hold")]
        try scenario.write("", to: "hold")
    }

    func letGo() throws { try FileManager.default.removeItem(atPath: scenario.path("hold")) }
}
