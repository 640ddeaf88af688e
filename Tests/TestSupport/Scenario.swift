import Foundation
import Glibc
import Testing

/// The folder and processes of one test, which are removed when it ends or fails.
final class Scenario {
    let folder: String
    private var processes: [ChildProcess] = []
    private var gateways: [GatewayProcess] = []
    private var cleanups: [() -> Void] = []

    private init() throws {
        var name = Array("/tmp/gateway-scenario-XXXXXX".utf8CString)
        guard let made = mkdtemp(&name) else { throw NeverCame(what: "a temporary folder", seen: []) }
        folder = String(cString: made)
        chmod(folder, 0o755)
    }

    /// Runs a scenario, and checks the counters of all gateways that are still running at its end.
    static func run(_ body: (Scenario) throws -> Void) throws {
        signal(SIGPIPE, SIG_IGN)
        let scenario = try Scenario()
        defer { scenario.end() }
        try body(scenario)
        for gateway in scenario.gateways where gateway.process.isRunning { try gateway.checkAccounts() }
    }

    /// Kills all processes and removes the folder.
    private func end() {
        for process in processes.reversed() { process.end() }
        for cleanup in cleanups.reversed() { cleanup() }
        TestFolder.remove(folder)
    }

    /// Does this at the end of the scenario.
    func atEnd(_ cleanup: @escaping () -> Void) { cleanups.append(cleanup) }

    /// Starts a process, which is killed at the end of the scenario.
    @discardableResult
    func start(_ arguments: [String], environment: [String: String] = [:], stdout: ChildProcess.Stream = .lines) throws -> ChildProcess {
        let process = try ChildProcess(arguments, folder: folder, environment: environment, stdout: stdout)
        processes.append(process)
        return process
    }

    /// A port of the loopback interface for a server of this scenario; no other process gets it before the scenario ends.
    func port() throws -> UInt16 {
        let (socket, port) = try TestSocket.bound()
        atEnd { withExtendedLifetime(socket) {} }
        return port
    }

    /// Has the counters of this gateway checked at the end.
    func keep(_ gateway: GatewayProcess) { gateways.append(gateway) }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    @discardableResult
    func write(_ text: String, to name: String) throws -> String {
        try text.write(toFile: path(name), atomically: false, encoding: .utf8)
        return path(name)
    }

    /// All files below a folder, as paths relative to it, sorted.
    func files(under name: String) -> [String] { TestFolder.files(below: path(name)) }

    func bytes(of name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path(name))) }
}

/// A profile that a real profiler wrote.
struct Fixture: CustomTestStringConvertible {
    let name: String
    var path: String { "\(Project.root)/Tests/Fixtures/\(name)" }
    var testDescription: String { name }

    func bytes() throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

    /// The hash of a file in hex, by the command `sha256sum`.
    static func sha256(ofFile path: String, _ scenario: Scenario) throws -> String {
        let process = try scenario.start(["sha256sum", path])
        return String(try process.output.wait(for: path).prefix(64))
    }
}
