import Foundation
import Testing

@testable import TestSupport

@Suite("Event loops", .serialized)
struct LoopTests {
    /// How many connections each event loop of a gateway has, by the sockets in the pollers of its process.
    private func connections(of gateway: GatewayProcess) throws -> [Int] {
        let folder = "/proc/\(gateway.process.id)"
        let wanted = try sockets(gateway)
        return try FileManager.default.contentsOfDirectory(atPath: "\(folder)/fdinfo").compactMap { number in
            guard let text = try? String(contentsOfFile: "\(folder)/fdinfo/\(number)", encoding: .utf8), text.contains("tfd:") else {
                return nil
            }
            let watched = text.split(separator: "\n").filter { $0.hasPrefix("tfd:") }.compactMap {
                $0.split(separator: " ").dropFirst().first
            }
            return watched.count { wanted.contains(String($0)) }
        }
    }

    /// The descriptors that are sockets.
    private func sockets(_ gateway: GatewayProcess) throws -> Set<String> {
        let folder = "/proc/\(gateway.process.id)/fd"
        return Set(
            try FileManager.default.contentsOfDirectory(atPath: folder).filter {
                (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)"))?.hasPrefix("socket:") == true
            })
    }

    @Test("Connections that are opened together are spread evenly over the loops")
    func spread() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["archive": ReceiverEntry.archive()], more: "\"loops\": 4,")
            let clients = try (0..<64).map { _ in try RawConnection(gateway.port) }
            for client in clients { #expect(try client.post("/ingest?name=app", "a 1").status == 200) }
            // Each loop also watches the listening socket; the other pollers have few sockets.
            let counts = try connections(of: gateway).sorted().suffix(4)
            #expect(counts.reduce(0, +) == 64 + 4)
            #expect(counts.allSatisfy { 12...22 ~= $0 }, "\(counts)")
        }
    }

    @Test("A reload with another number of loops is refused, and check refuses a number out of range")
    func reload() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["archive": ReceiverEntry.archive()], more: "\"loops\": 2,")
            let file = scenario.path("gateway.json")
            let text = try String(contentsOfFile: file, encoding: .utf8)
            try scenario.write(text.replacingOccurrences(of: "\"loops\": 2", with: "\"loops\": 3"), to: "gateway.json")
            gateway.process.signal(SIGHUP)
            try gateway.log.wait(for: "loops: is read at the start alone")
            try gateway.send(3)
            let check = try scenario.write(text.replacingOccurrences(of: "\"loops\": 2", with: "\"loops\": 65"), to: "wrong.json")
            let process = try scenario.start([try Project.builtGateway(), "check", "--config", check])
            #expect(try process.waitForExit() == 1)
            #expect(process.output.lines.contains { $0.contains("loops: must be a whole number, 1 to 64") })
        }
    }
}
