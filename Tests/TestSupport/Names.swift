import Foundation

/// The name resolution of one process; see `Servers/names.c`.
final class Names {
    /// The environment to start a gateway with.
    let environment: [String: String]
    private let scenario: Scenario

    init(_ scenario: Scenario) throws {
        self.scenario = scenario
        let made = try scenario.run(
            "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "names.so", "\(Project.servers)/names.c",
            "-ldl")
        guard made.status == 0 else { throw NeverCame(what: "names.so", seen: made.output) }
        environment = [
            "LD_PRELOAD": scenario.path("names.so"), "NAMES_CONTROL": scenario.path("names"), "NAMES_LOG": scenario.path("names.log"),
        ]
        try scenario.write("", to: "names")
        try scenario.write("", to: "names.log")
    }

    /// Resolves the name to this address from now on, or lets its lookups `hang`.
    func set(_ name: String, _ address: String) throws { try scenario.replace("names", text: "\(name) \(address)\n") }

    /// How many lookups have begun.
    var lookups: Int {
        get throws { try String(contentsOfFile: scenario.path("names.log"), encoding: .utf8).split(separator: "\n").count }
    }
}
