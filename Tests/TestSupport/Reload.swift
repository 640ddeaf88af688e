import Foundation
import Glibc
import Testing

/// The result of the last reload on the status page.
struct ReloadState: Decodable {
    let successful: Bool
    let at: String
    let problems: [String]
}

extension GatewayProcess {
    static let admin = "\"admin\": { \"listen_address\": \"127.0.0.1\", \"listen_port\": 0 },"

    /// Replaces the config file of the running gateway without a reload.
    func write(_ config: String, admin: String = GatewayProcess.admin, _ scenario: Scenario) throws {
        try scenario.write("{ \(admin)\n\(config)\n}\n", to: "next.json")
        guard rename(scenario.path("next.json"), scenario.path("gateway.json")) == 0 else { throw NeverCame(what: "rename", seen: []) }
    }

    /// Requests a page of the admin listener.
    func page(_ path: String, method: String = "GET") throws -> RawConnection.Response {
        let connection = try RawConnection(adminPort)
        defer { connection.close() }
        connection.send("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        return try connection.readResponse()
    }

    func postReload() throws -> RawConnection.Response { try page("/-/reload", method: "POST") }

    /// Reloads with another config, and waits until that is done.
    func reload(
        _ config: String, admin: String = GatewayProcess.admin, _ scenario: Scenario, _ location: SourceLocation = #_sourceLocation
    ) throws {
        try write(config, admin: admin, scenario)
        let before = log.lines.count { $0.contains("config reloaded") }
        let answer = try postReload()
        #expect(answer.status == 200, "\(answer.text)", sourceLocation: location)
        try waitForReloads(before + 1)
    }

    /// Reloads with one listener that forwards to all receivers.
    func reload(
        receivers: [String: String], http: String = "", more: String = "", _ scenario: Scenario,
        _ location: SourceLocation = #_sourceLocation
    ) throws {
        let listeners = Self.listener(receivers.keys.sorted(), http: http)
        try reload(Self.config(listeners: listeners, receivers: receivers, more: more), scenario, location)
    }

    /// Waits until the log has this many reloads, and reads the ports again.
    func waitForReloads(_ count: Int) throws {
        _ = try log.wait(for: "\(count) reloads") { lines in
            lines.count { $0.contains("config reloaded") } >= count ? true : nil
        }
        readPorts()
    }

    /// The result of the last reload.
    func reloadState() throws -> ReloadState {
        struct Page: Decodable { let reload: ReloadState }
        return try JSONDecoder().decode(Page.self, from: Data(try page("/api/v1/status").body)).reload
    }

    /// The inode of the socket that listens on this port, from the kernel's table.
    func socket(_ port: UInt16) throws -> String {
        let hex = String(port, radix: 16, uppercase: true)
        let place = ":" + String(repeating: "0", count: 4 - hex.count) + hex
        let lines = try String(contentsOfFile: "/proc/net/tcp", encoding: .utf8).split(separator: "\n").map { $0.split(separator: " ") }
        let inodes = lines.filter { $0.count > 9 && $0[1].hasSuffix(place) && $0[3] == "0A" }.map { String($0[9]) }
        return try #require(inodes.first)
    }
}

/// The resources of a process according to /proc.
struct Footprint {
    let descriptors: Int
    let threads: Int
    let residentKilobytes: Int

    /// Whether there are no more descriptors and threads than before; connections of the admin listener may have ended.
    func holds(_ before: Footprint) -> Bool { descriptors <= before.descriptors && threads <= before.threads }

    init(_ gateway: GatewayProcess) throws {
        let proc = "/proc/\(gateway.process.id)"
        descriptors = try FileManager.default.contentsOfDirectory(atPath: "\(proc)/fd").count
        threads = try FileManager.default.contentsOfDirectory(atPath: "\(proc)/task").count
        let status = try String(contentsOfFile: "\(proc)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        residentKilobytes = line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    }
}
