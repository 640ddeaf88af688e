import Foundation

/// The client that most people try first.
struct Curl {
    let status: Int
    /// The head of the last answer, and of a 100 Continue before it.
    let head: String
    let body: String
    /// What `-v` tells, when it was asked for.
    let trace: [String]

    init(_ scenario: Scenario, _ arguments: [String]) throws {
        let name = "curl-\(UUID().uuidString)"
        let process = try scenario.start(
            [
                "curl", "-q", "-sS", "--noproxy", "*", "-D", scenario.path(name + ".head"), "-o", scenario.path(name + ".body"), "-w",
                "status=%{http_code}\n",
            ]
                + arguments)
        try process.waitForExit()
        let said = try process.output.wait(for: "status=")
        status = Int(said.dropFirst("status=".count)) ?? 0
        trace = try process.errors.waitForEnd()
        head = (try? String(contentsOfFile: scenario.path(name + ".head"), encoding: .isoLatin1)) ?? ""
        body = (try? String(contentsOfFile: scenario.path(name + ".body"), encoding: .utf8)) ?? ""
    }

    /// Sends a file's bytes as they are.
    static func post(_ scenario: Scenario, _ port: UInt16, _ target: String, file: String, _ more: [String] = []) throws -> Curl {
        try Curl(scenario, ["--data-binary", "@\(file)"] + more + ["http://127.0.0.1:\(port)\(target)"])
    }
}
