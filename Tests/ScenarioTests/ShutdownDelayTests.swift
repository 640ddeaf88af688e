import Glibc
import Testing

@testable import TestSupport

@Suite("shutdown_delay")
struct ShutdownDelayTests {
    private func gateway(_ scenario: Scenario, delay: String, more: String = "") throws -> GatewayProcess {
        try GatewayProcess(
            scenario, receivers: ["archive": ReceiverEntry.archive("archive")], more: "\"shutdown_delay\": \"\(delay)\", \(more)")
    }

    private func status(_ gateway: GatewayProcess, _ request: String) throws -> Int {
        let connection = try RawConnection(gateway.adminPort)
        connection.send("\(request) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        return try connection.readResponse().status
    }

    @Test("After SIGTERM the gateway is not ready at once, and takes profiles on old and new connections")
    func serves() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, delay: "1h")
            let old = try RawConnection(gateway.port)
            #expect(try old.post("/ingest?name=before", "a 1").status == 200)
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "not ready any more, but still serving")
            #expect(try status(gateway, "GET /-/ready") == 503)
            #expect(try status(gateway, "GET /-/healthy") == 200)
            #expect(try old.post("/ingest?name=old", "a 1").status == 200)
            #expect(try RawConnection(gateway.port).post("/ingest?name=new", "a 1").status == 200)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("no longer listening") })
        }
    }

    @Test("After the delay the gateway closes, and not before")
    func closes() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, delay: "1s")
            let begin = ContinuousClock.now
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "no longer listening")
            #expect(ContinuousClock.now - begin >= .seconds(1))
            #expect(throws: (any Error).self) { try RawConnection(gateway.port) }
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("A second signal ends the delay")
    func secondSignal() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, delay: "1h")
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "not ready any more, but still serving")
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "second signal received")
            #expect(try gateway.process.waitForExit() == 0)
        }
    }

    @Test("Nothing is reloaded during the delay, and SIGHUP does not end it")
    func reload() throws {
        try Scenario.run { scenario in
            let gateway = try gateway(scenario, delay: "1h")
            gateway.process.signal(SIGTERM)
            try gateway.log.wait(for: "not ready any more, but still serving")
            #expect(try status(gateway, "POST /-/reload") == 503)
            gateway.process.signal(SIGHUP)
            try gateway.send(1)
            #expect(gateway.log.lines.allSatisfy { !$0.contains("config reloaded") && !$0.contains("no longer listening") })
            gateway.process.signal(SIGINT)
            #expect(try gateway.process.waitForExit() == 0)
        }
    }
}
