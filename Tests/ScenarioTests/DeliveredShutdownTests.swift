import Glibc
import Testing

@testable import TestSupport

@Suite("Shutdown while senders wait for a delivery", .serialized)
struct DeliveredShutdownTests {
    /// Runs a test with a sender that waits for a silent upstream, and a gateway that has been told to stop.
    private func run(
        _ api: DeliveredTests.API, shutdownTimeout: String, _ body: (GatewayProcess, Recorder, RawConnection) throws -> Void
    ) throws {
        try Scenario.run { scenario in
            let upstream = try Recorder(scenario)
            try upstream.hold()
            let listener = GatewayProcess.listener(["up"], more: "\"ack\": \"delivered\",")
            let gateway = try GatewayProcess(
                scenario,
                GatewayProcess.config(
                    listeners: listener, receivers: ["up": ReceiverEntry.writer(upstream.url)],
                    more: "\"shutdown_timeout\": \"\(shutdownTimeout)\","))
            let sender = try RawConnection(gateway.port)
            try api.begin(sender, 1)
            try upstream.wait(count: 1)
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "no longer listening")
            try body(gateway, upstream, sender)
            try gateway.process.waitForExit()
        }
    }

    @Test("An answer of the upstream during the drain still reaches the sender", arguments: DeliveredTests.API.allCases)
    func answered(api: DeliveredTests.API) throws {
        try run(api, shutdownTimeout: "60s") { _, upstream, sender in
            try upstream.answer()
            let answer = try sender.readResponse()
            #expect(answer.status == 200)
            #expect(answer.header("Connection") == "close")
        }
    }

    @Test(
        "A sender gets 503 when the upstream stays silent until the end of the drain", arguments: DeliveredTests.API.allCases
    )
    func silent(api: DeliveredTests.API) throws {
        try run(api, shutdownTimeout: "1s") { _, _, sender in
            let answer = try sender.readToEnd()
            #expect(answer.hasPrefix("HTTP/1.1 503 "), "\(answer)")
        }
    }
}
