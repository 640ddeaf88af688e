import Foundation
import Testing

@testable import TestSupport

@Suite("Plugins that end the process", .serialized)
struct CrashGuardTests {
    /// Builds a plugin that ends the process at a profile with the word `poison`, and returns a receiver of it.
    private static func crasher(_ scenario: Scenario, by way: String) throws -> String {
        let path = scenario.path("libcrasher.so")
        try CPlugin.build("crasher.c", as: path)
        return "\"plugin\": \"\(path)\", \"config\": { \"by\": \"\(way)\" },"
    }

    private static func config(_ scenario: Scenario, by way: String) throws -> String {
        GatewayProcess.config(
            listeners: GatewayProcess.listener(["bad", "good"]),
            receivers: ["bad": try crasher(scenario, by: way), "good": ReceiverEntry.archive()],
            more: "\"data_dir\": \"\(scenario.path("data"))\",")
    }

    /// Sends a profile that ends the process, and waits for that.
    private static func poison(_ gateway: GatewayProcess) throws {
        let connection = try RawConnection(gateway.port)
        // The process may end before the answer is sent.
        _ = try? connection.post("/ingest?name=a", "poison 1")
        _ = try gateway.process.waitForStatus()
    }

    /// Starts the gateway of the last config until a line comes, and returns it and the number of starts before it that ended.
    private static func restart(_ scenario: Scenario, until texts: String...) throws -> (process: ChildProcess, crashes: Int) {
        var crashes = 0
        while true {
            let process = try scenario.start([try Project.builtGateway(), "run", "--config", scenario.path("gateway.json")])
            do {
                _ = try process.errors.wait(for: "\(texts)") { lines in lines.first { line in texts.allSatisfy(line.contains) } }
                return (process, crashes)
            } catch {
                crashes += 1
                guard crashes < 10, (try? process.waitForStatus()) != nil else { throw error }
            }
        }
    }

    @Test(
        "A profile that crashes the plugin becomes a dead letter, and every other one is delivered everywhere",
        .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself"),
        arguments: ["segv", "abort", "exit", "stack", "thread", "quit", "overflow"])
    func poison(way: String) throws {
        try Scenario.run { scenario in
            let config = try Self.config(scenario, by: way)
            let gateway = try GatewayProcess(scenario, config)
            try gateway.send(1)
            try gateway.waitForMetrics("the first profile") { $0.delivered("bad") == 1 && $0.delivered("good") == 1 }
            try Self.poison(gateway)
            try gateway.log.waitForEnd()
            // _exit, and an overflown stack of a thread that the plugin made, leave no time to say a word.
            let isSilent = ["quit", "overflow"].contains(way)
            let line = gateway.log.lines.last ?? ""
            #expect(line.contains("the process crashed in a plugin") != isSilent)
            #expect(isSilent || line.contains("receiver=\"bad\" plugin=\"crasher 1.2.3 \(scenario.path("libcrasher.so"))\" call="))
            #expect(isSilent || line.contains(way == "thread" ? "call=none open=1" : "call=deliver sequence="))

            let (process, crashes) = try Self.restart(scenario, until: "put with the dead letters", "receiver=bad", "reason=crashed")
            // On a busy machine the other receiver may have the profile too at a silent crash, which then says nothing of either.
            #expect(isSilent ? 3...5 ~= crashes : crashes == 2)
            #expect(
                process.errors.lines.contains {
                    $0.contains(isSilent ? "the last process ended without a word" : "the last process crashed in a plugin")
                        && $0.contains("receiver=bad")
                })
            process.signal(SIGTERM)
            #expect(try process.waitForStatus() == 0)

            let last = try GatewayProcess(scenario, config)
            try last.send(1)
            let metrics = try last.waitForMetrics("the last profile") { $0.delivered("bad") == 1 && $0.queued("good") == 0 }
            #expect(metrics["gateway_dead_letters{receiver=\"bad\"}"] == 1 && metrics.queued("bad") == 0)
            #expect(TestFolder.files(below: scenario.path("archive")).filter { $0.hasSuffix(".json") }.count == 3)
        }
    }

    @Test(
        "A plugin that has crashed five times is not started, its queue is kept, and the others run",
        .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself"))
    func loop() throws {
        try Scenario.run { scenario in
            let config = try Self.config(scenario, by: "segv")
            // The first profile crashes three times, and the second one twice.
            try Self.poison(try GatewayProcess(scenario, config))
            let (first, _) = try Self.restart(scenario, until: "profile put with the dead letters", "reason=crashed")
            first.signal(SIGTERM)
            _ = try first.waitForStatus()
            try Self.poison(try GatewayProcess(scenario, config))
            let (second, crashes) = try Self.restart(scenario, until: "the receiver's plugin is not started", "receiver=bad")
            #expect(crashes == 1)
            second.signal(SIGTERM)
            _ = try second.waitForStatus()
            let last = try GatewayProcess(scenario, config)
            try last.send(1)
            try last.waitForMetrics("the other receiver") { $0.queued("good") == 0 && $0.delivered("good") >= 1 }
            let metrics = try last.metrics()
            #expect(metrics["gateway_receiver_health{receiver=\"bad\"}"] == 2 && metrics.queued("bad") >= 1)
        }
    }

    @Test("A process that is killed, or ends in order, is no crash")
    func noCrash() throws {
        try Scenario.run { scenario in
            let config = try Self.config(scenario, by: "nothing")
            for signal in [SIGKILL, SIGTERM, SIGKILL] {
                let gateway = try GatewayProcess(scenario, config)
                try gateway.send(3)
                gateway.process.signal(signal)
                _ = try gateway.process.waitForStatus()
            }
            let gateway = try GatewayProcess(scenario, config)
            try gateway.waitForMetrics("all profiles") { $0.queued("bad") == 0 && $0.queued("good") == 0 }
            #expect(!gateway.log.lines.contains { $0.contains("crashed") })
        }
    }

    @Test("A child that a plugin forks keeps neither the port nor the lock after the gateway has ended")
    func forkedChild() throws {
        try Scenario.run { scenario in
            let config = try Self.config(scenario, by: "stay")
            let gateway = try GatewayProcess(scenario, config)
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "poison 1").status == 200)
            try gateway.waitForMetrics("the profile") { $0.delivered("bad") == 1 }
            // The child writes its number after it has closed what it inherited.
            try gateway.log.poll(for: "the child") {
                (try? String(contentsOfFile: scenario.path("child"), encoding: .utf8))?.hasSuffix("\n") == true ? true : nil
            }
            gateway.process.signal(SIGKILL)
            _ = try gateway.process.waitForStatus()
            #expect(throws: (any Error).self, "a child that holds the port would let it be connected") { try RawConnection(gateway.port) }
            let next = try GatewayProcess(scenario, config)
            try next.send(1)
            let child = try #require(Int32(String(contentsOfFile: scenario.path("child"), encoding: .utf8).dropLast()))
            kill(child, SIGKILL)
        }
    }

    @Test(
        "A child that a plugin forks, and a signal from outside, are no crash of the plugin",
        .disabled(if: Project.isSanitized, "a sanitizer handles fatal signals itself"))
    func outside() throws {
        try Scenario.run { scenario in
            let gateway = try GatewayProcess(scenario, try Self.config(scenario, by: "fork"))
            #expect(try RawConnection(gateway.port).post("/ingest?name=a", "poison 1").status == 200)
            try gateway.waitForMetrics("the profile") { $0.delivered("bad") == 1 }
            gateway.process.signal(SIGSEGV)
            #expect(try gateway.process.waitForStatus() == 128 + SIGSEGV)
            try gateway.log.waitForEnd()
            #expect(!gateway.log.lines.contains { $0.contains("process crashed") })
        }
    }
}
