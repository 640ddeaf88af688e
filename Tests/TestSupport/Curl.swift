import Foundation

/// A request made by curl, and its answer.
struct Curl {
    let status: Int
    /// The head of the last answer, after that of a 100 Continue.
    let head: String
    let body: String
    /// The lines of `-v`, if that was given.
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

    /// Posts the bytes of a file unchanged.
    static func post(_ scenario: Scenario, _ port: UInt16, _ target: String, file: String, _ more: [String] = []) throws -> Curl {
        try Curl(scenario, ["--data-binary", "@\(file)"] + more + ["http://127.0.0.1:\(port)\(target)"])
    }
}
