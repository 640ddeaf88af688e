import Foundation
import Testing

@testable import TestSupport

@Suite(
    "Pages of profiles that are asked for at once", .serialized,
    .enabled(if: !Project.isSanitized, "a sanitizer and LD_PRELOAD exclude each other"))
struct ProfilePageTests {
    /// The nice value of the thread that reads profiles.
    private static let reader = 10

    private func ask(_ gateway: GatewayProcess, _ path: String) throws -> RawConnection {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection
    }

    /// The path of the only profile, once the page has it.
    private func profile(_ gateway: GatewayProcess) throws -> String {
        let limit = Date(timeIntervalSinceNow: Project.patience)
        while true {
            let page = try ask(gateway, "/").readResponse().text
            if let start = page.range(of: "/profiles/") { return "/profiles/\(page[start.upperBound...].prefix { $0.isNumber })" }
            guard Date() < limit else { throw NeverCame(what: "the profile", seen: [page]) }
            gateway.log.pause()
        }
    }

    @Test("Eight may be asked for, and each one more is answered 503 at once", arguments: [7, 8, 9, 20])
    func crowd(count: Int) throws {
        try Scenario.run { scenario in
            let held = try HeldThread(scenario, nice: Self.reader)
            let receivers = ["console": ReceiverEntry.console()]
            let config = GatewayProcess.config(listeners: GatewayProcess.listener(["console"]), receivers: receivers)
            let gateway = try GatewayProcess(scenario, config, environment: held.environment)
            try gateway.send(1)
            let path = try profile(gateway)
            let asked = try (0..<count).map { _ in try ask(gateway, path) }
            // Nothing is read meanwhile, so whichever come first have all the places.
            let limit = Date(timeIntervalSinceNow: Project.patience)
            while asked.count(where: \.hasInput) < count - 8 {
                guard Date() < limit else { throw NeverCame(what: "\(count - 8) answers", seen: gateway.log.lines) }
                gateway.log.pause()
            }
            let refused = asked.filter(\.hasInput)
            #expect(refused.count == max(0, count - 8))
            for connection in refused {
                let answer = try connection.readResponse()
                #expect(answer.status == 503 && answer.text.contains("8 other profiles wait to be read"))
            }
            try held.letGo()
            for connection in asked where !refused.contains(where: { $0 === connection }) {
                let answer = try connection.readResponse()
                #expect(answer.status == 200 && answer.text.contains("main"))
            }
            // Those that were answered have made room, and those that were refused have taken none: they are more than the places.
            #expect(try ask(gateway, path).readResponse().status == 200)
        }
    }
}
