import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("FileSink archives", .serialized)
struct ArchiveTests {
    /// Sends profiles of the given services, and returns the names of their folders.
    private func folders(of services: [String]) throws -> [String] {
        try Scenario.run(returning: []) { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["archive": ReceiverEntry.archive("archive")])
            let connection = try RawConnection(gateway.port)
            for service in services {
                #expect(try connection.post("/ingest?name=app%7Bservice_name=\(service)%7D", "a 1").status == 200)
            }
            try gateway.waitForMetrics("all archived") { $0.delivered("archive") == services.count }
            #expect(
                scenario.files(under: ".").allSatisfy { $0.hasPrefix("archive/") || !$0.contains(".folded") },
                "nothing leaves the directory")
            let files = scenario.files(under: "archive")
            #expect(files.count == 2 * services.count)
            #expect(files.allSatisfy { $0.split(separator: "/").count == 7 }, "every profile is at its depth")
            return Set(files.map { String($0.split(separator: "/")[1]) }).sorted()
        }
    }

    @Test("Services with hostile names get escaped folders inside the archive")
    func hostileNames() throws {
        let sent = [
            "..%2F..%2Fetc", "..", ".", "%2Fabs", ".hidden", "a%2Fb", "tab%09newline%0A", "caf%C3%A9", "per%25cent", "back%5Cslash",
        ]
        let expected = [
            "%2E.%2F..%2Fetc", "%2E.", "%2E", "%2Fabs", "%2Ehidden", "a%2Fb", "tab%09newline%0A", "caf%C3%A9", "per%25cent", "back%5Cslash",
        ]
        // The gateway trims white space at the ends of a value.
        #expect(try folders(of: sent) == expected.map { $0 == "tab%09newline%0A" ? "tab%09newline" : $0 }.sorted())
    }

    @Test("Names over 200 bytes are cut and end in a hash, so that different names stay different")
    func longNames() throws {
        let at = String(repeating: "n", count: 200)
        let over = String(repeating: "n", count: 201)
        let other = String(repeating: "n", count: 250)
        let escaped = String(repeating: "%C3%A9", count: 60)
        let found = try folders(of: [at, over, other, escaped])
        #expect(found.count == 4)
        #expect(found.contains(at))
        #expect(found.allSatisfy { $0.utf8.count <= 200 })
        #expect(found.count { $0.hasPrefix("nnn") && $0.contains("-") } == 2)
    }

    @Test("Each tenant has its own folder, and no temporary file is left")
    func tenants() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["archive": ReceiverEntry.archive("deep/er/archive")])
            let connection = try RawConnection(gateway.port)
            for tenant in ["a", "b", "..", "a'b!(c)*"] {
                #expect(try connection.post("/ingest?name=app", "a 1", headers: "X-Scope-OrgID: \(tenant)\r\n").status == 200)
            }
            try gateway.waitForMetrics("all archived") { $0.delivered("archive") == 4 }
            let files = scenario.files(under: "deep/er/archive")
            #expect(Set(files.map { String($0.prefix { $0 != "/" }) }) == ["a", "b", "%2E.", "a%27b%21%28c%29%2A"])
            #expect(!files.contains { $0.contains(".tmp") })
        }
    }

    static let canMount =
        getuid() == 0 && system("d=$(mktemp -d) && mount -t tmpfs -o size=64k t $d 2>/dev/null && umount $d && rmdir $d") == 0

    @Test(
        "A full disk fails only the archive, which stores its profiles once there is room",
        .enabled(if: canMount, "only root can mount a small file system"))
    func fullDisk() throws {
        try Scenario.run { scenario in
            let disk = scenario.path("disk")
            try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
            #expect(try scenario.start(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).waitForExit() == 0)
            scenario.atEnd { umount2(disk, Int32(MNT_DETACH)) }
            try Data(count: 1000 * 1024).write(to: URL(fileURLWithPath: "\(disk)/ballast"))
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "archive": ReceiverEntry.archive(disk + "/archive", more: ReceiverEntry.quickRetry), "console": ReceiverEntry.console(),
                ])
            let body = String(repeating: "x", count: 100_000)
            for _ in 0..<3 { #expect(try RawConnection(gateway.port).post("/ingest?name=app", body).status == 200) }
            let metrics = try gateway.waitForMetrics("a failed archive") { $0.health("archive") == 2 && $0.delivered("console") == 3 }
            #expect(metrics.delivered("archive") == 0)
            #expect(metrics.queued("archive") == 3)
            try gateway.log.wait(for: "receiver=archive", "No space left on device")
            #expect(!scenario.files(under: "disk").contains { $0.hasSuffix(".folded") }, "no half a profile under a final name")
            try FileManager.default.removeItem(atPath: "\(disk)/ballast")
            try gateway.waitForMetrics("3 archived and health") { $0.delivered("archive") == 3 && $0.health("archive") == 0 }
            let files = scenario.files(under: "disk").filter { $0.hasSuffix(".folded") }
            #expect(files.count == 3)
            for file in files { #expect(try scenario.bytes(of: "disk/\(file)").count == 100_000) }
            #expect(!scenario.files(under: "disk").contains { $0.contains(".tmp") })
        }
    }

    @Test("A file in place of a folder causes retries of its profiles only, until it is removed")
    func fileInTheWay() throws {
        try Scenario.run { scenario in
            try FileManager.default.createDirectory(atPath: scenario.path("archive/anonymous"), withIntermediateDirectories: true)
            try scenario.write("in the way", to: "archive/anonymous/blocked")
            let gateway = try GatewayProcess(
                scenario, receivers: ["archive": ReceiverEntry.archive("archive", more: ReceiverEntry.quickRetry)])
            let connection = try RawConnection(gateway.port)
            #expect(try connection.post("/ingest?name=blocked", "a 1").status == 200)
            try gateway.log.wait(for: "receiver=archive", "Not a directory")
            #expect(try connection.post("/ingest?name=free", "a 1").status == 200)
            try gateway.waitForMetrics("the other one archived") { $0.delivered("archive") == 1 }
            try FileManager.default.removeItem(atPath: scenario.path("archive/anonymous/blocked"))
            try gateway.waitForMetrics("both archived") { $0.delivered("archive") == 2 }
        }
    }
}

extension Scenario {
    /// Runs a scenario that returns a value.
    static func run<T>(returning start: T, _ body: (Scenario) throws -> T) throws -> T {
        var result = start
        try run { scenario in result = try body(scenario) }
        return result
    }
}
