import Foundation
import Testing

@testable import TestSupport

@Suite("Descriptors and child processes")
struct InheritanceTests {
    @Test("A program that a plugin starts inherits no descriptor of the gateway or libcurl")
    func closeOnExec() throws {
        try Scenario.run { scenario in
            let recorder = try Recorder(scenario)
            let gateway = try GatewayProcess(
                scenario,
                receivers: [
                    "up": ReceiverEntry.writer(recorder.url.replacing("127.0.0.1", with: "localhost")), "archive": ReceiverEntry.archive(),
                ],
                more: "\"data_dir\": \"\(scenario.path("data"))\",")
            try gateway.send(1)
            try gateway.waitForMetrics("its delivery") { $0.delivered("up") == 1 }
            let folder = "/proc/\(gateway.process.id)/fdinfo"
            var inherited: [String] = []
            for name in try FileManager.default.contentsOfDirectory(atPath: folder) where (Int(name) ?? 0) > 2 {
                // A descriptor that was closed meanwhile does not matter.
                guard let info = try? String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8),
                    let flags = info.split(separator: "\n").first(where: { $0.hasPrefix("flags:") })?.split(separator: "\t").last
                else { continue }
                if (Int(flags, radix: 8) ?? 0) & 0o2000000 == 0 { inherited.append(name) }
            }
            #expect(inherited == [])
        }
    }
}
