import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Standard output as a receiver", .serialized)
struct OutputTests {
    @Test("Control characters of senders are escaped", arguments: ["text", "json"])
    func controlCharacters(_ format: String) throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, receivers: ["console": ReceiverEntry.console(format)])
            let target = "/ingest?name=app%7Bpod=x%0Ay%1B%5B31mz%07%7F%C2%9B1m%7D&format=pprof"
            #expect(try RawConnection(gateway.port).post(target, "a 1").status == 200)
            try gateway.waitForMetrics("a delivery") { $0.delivered("console") == 1 }
            #expect(try gateway.stop() == 0)
            let lines = gateway.process.output.lines
            #expect(lines.count == 1)
            let line = try #require(lines.first)
            #expect(line.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F ~= $0.value) }, "\(line)")
            #expect(line.contains("\\n"))
            if format == "json" {
                let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
                #expect((object["labels"] as? [String: String])?["pod"] == "x\ny\u{1B}[31mz\u{7}\u{7F}\u{9B}1m")
            }
        }
    }

    @Test("A reader that stops reading blocks only its own queue, and gets everything when it continues")
    func stalledReader() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario, receivers: ["console": ReceiverEntry.console("json"), "up": ReceiverEntry.writer(upstream.url)], stdout: .unread)
            try gateway.send(1000, to: "/ingest?name=\(String(repeating: "long", count: 100))")
            let metrics = try gateway.waitForMetrics("1000 deliveries") { $0.delivered("up") == 1000 }
            #expect(metrics.queued("console") > 0)
            let log = LineLog()
            log.read(gateway.process.unreadOutput)
            try gateway.waitForMetrics("the rest of the lines") { $0.delivered("console") == 1000 }
            let lines = try log.wait(for: "1000 lines") { $0.count >= 1000 ? $0 : nil }
            #expect(lines.count == 1000)
            #expect(lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") }, "no line is cut or mixed")
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("A closed reader fails only its own receiver")
    func readerGone() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "console": ReceiverEntry.console(more: ReceiverEntry.quickRetry), "up": ReceiverEntry.writer(upstream.url),
                ], more: "\"shutdown_timeout\": \"1s\",", stdout: .unread)
            close(gateway.process.unreadOutput)
            try gateway.send(20)
            let metrics = try gateway.waitForMetrics("20 deliveries and a failed console") {
                $0.delivered("up") == 20 && $0.health("console") == 2
            }
            #expect(metrics.delivered("console") == 0)
            try gateway.log.wait(for: "receiver=console", "Broken pipe")
            try gateway.checkAccounts()
            #expect(try gateway.stop() == 0)
        }
    }

    @Test("Without a standard output, its lines go nowhere else")
    func closedOutput() throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "console": ReceiverEntry.console(more: ReceiverEntry.quickRetry), "up": ReceiverEntry.writer(upstream.url),
                    "archive": ReceiverEntry.archive(),
                ], more: "\"shutdown_timeout\": \"1s\",", stdout: .closed)
            try gateway.send(20)
            try gateway.waitForMetrics("20 deliveries") { $0.delivered("up") == 20 && $0.delivered("archive") == 20 }
            #expect(upstream.texts == GatewayProcess.bodies(0..<20))
            // Descriptor 1 must not be another file that receives the lines.
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(gateway.process.id)/fd/1")
            #expect(target == nil || target == "/dev/null", "descriptor 1 is \(target ?? "")")
            #expect(try gateway.stop() == 0)
        }
    }
}
